"""Published numbers beside measured ones: `experiments/ledger.yaml` says which table belongs to which data set."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fusion.pages import Table

LEDGER = "ledger.yaml"
OTHER = ("task", "method", "experiment", "dataset")


def experiments_dir() -> Path | None:
    """The folder `experiments` of a checkout; None where only the package is installed."""
    folder = Path(__file__).resolve().parents[2] / "experiments"
    return folder if (folder / LEDGER).is_file() else None


def entries(folder: Path | None) -> list[dict[str, Any]]:
    """The ledger's tables and figures; none without a checkout."""
    return yaml.safe_load((folder / LEDGER).read_text(encoding="utf-8"))["entries"] if folder is not None else []


def beside(rows: Sequence[Mapping[str, Any]], folder: Path | None) -> list[Table]:
    """Tables of published and measured means, one per published table of a data set that was scored.

    Args:
        rows: of an evaluation's summary: `dataset`, `method`, `pairs` and metrics, as NAME or NAME@CONVENTION.
        folder: experiments folder.
    """
    tables = []
    for entry in entries(folder):
        measured = [row for row in rows if row.get("dataset") in entry.get("datasets", ())]
        if not measured or not entry.get("published") or folder is None:
            continue
        published = read(folder / entry["published"])
        published = [row for row in published if row.get("dataset") in (None, "", *entry["datasets"])]
        columns = {key: name for key in _metrics(measured) if (name := key.split("@")[0]) in _metrics(published)}
        if not columns:
            continue
        shown = [
            [row.get("method", ""), "published", *(_number(row.get(n)) for n in columns.values())] for row in published
        ]
        shown += [[row["method"], "measured", *(row.get(key) for key in columns)] for row in measured]
        caption = f"{entry['paper']}, {entry['title']}; measured on {int(measured[0].get('pairs') or 0)} pairs"
        tables.append(Table(["method", "", *columns], shown, caption, 4, _marks(shown), wide=True))
    return tables


def of_experiment(name: str, folder: Path | None) -> list[Table]:
    """Published rows that a configuration of `conf/experiment` stands for."""
    tables = []
    for entry in entries(folder):
        if folder is None or not entry.get("published"):
            continue
        rows = [row for row in read(folder / entry["published"]) if row.get("experiment") == name]
        if rows:
            header = [key for key in rows[0] if key != "experiment"]
            shown = [[_number(row[key]) if key not in OTHER else row[key] for key in header] for row in rows]
            tables.append(Table(header, shown, f"published: {entry['paper']}, {entry['title']}", wide=True))
    return tables


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a published table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _metrics(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [key for key in rows[0] if key not in (*OTHER, "pairs")] if rows else []


def _number(text: Any) -> Any:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text or None


def _marks(rows: Sequence[Sequence[Any]]) -> set[tuple[int, int]]:
    """Measured rows stand out."""
    return {(r, 0) for r, row in enumerate(rows) if row[1] == "measured"}
