"""What a run folder holds, read for a report: a training's or an evaluation's."""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fusion.analysis.sweep_jobs import epoch_of_csv
from fusion.errors import DataError
from fusion.job.records import read_json


@dataclass
class Run:
    """A run folder, read.

    Attributes:
        folder: of the run.
        name: for people.
        manifest: run.json.
        results: results.json.
        config: configuration, plain and unresolved.
        curves: logged values by name, as (step, value).
        summary: rows of an evaluation's summary.csv: means per method and data set.
    """

    folder: Path
    name: str
    manifest: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    summary: list[dict[str, Any]] = field(default_factory=list)

    @property
    def monitor(self) -> str | None:
        """Name of the monitored metric."""
        return self.results.get("monitor") or (self.config.get("monitor") or {}).get("metric")

    @property
    def mode(self) -> str:
        """Whether it is to be large ("max") or small ("min")."""
        return str((self.config.get("monitor") or {}).get("mode", "max"))

    @property
    def part(self) -> dict[str, Any]:
        """The latest part of the run: command, status, hardware, commit."""
        return (self.manifest.get("parts") or [{}])[-1]

    def best(self) -> tuple[int | None, dict[str, float]]:
        """Epoch (from 1) and numbers of the best epoch; those of the last one where no best is known."""
        found = self.results.get("best") or {}
        if found.get("metrics"):
            return int(found["epoch"]) + 1, dict(found["metrics"])
        if self.monitor and (row := epoch_of_csv(self.folder / "metrics.csv", self.monitor, self.mode)):
            return row
        return None, dict(self.results.get("metrics") or {})


def read_run(folder: Path, name: str | None = None, option: str = "run") -> Run:
    """Read a run folder.

    Raises:
        DataError: no run there.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{option}={folder}: no such folder; expected a run folder as training or evaluation printed it"
        )
    marks = ("run.json", "results.json", "metrics.csv", "summary.csv")
    if not any((folder / mark).is_file() for mark in marks):
        hint = "; give a sweep as sweep=" if (folder / "sweep.json").is_file() else ""
        raise DataError(f"{option}={folder}: no run in it (none of {', '.join(marks)}){hint}")
    manifest = read_json(folder / "run.json") or {"overrides": _yaml(folder / ".hydra" / "overrides.yaml") or []}
    config = _yaml(folder / "config.yaml") or _yaml(folder / ".hydra" / "config.yaml")
    label = read_json(folder / "job.json").get("label")
    return Run(
        folder,
        name
        or " ".join(str(part) for part in (manifest.get("name") or config.get("name"), label) if part)
        or folder.name,
        manifest,
        read_json(folder / "results.json"),
        config,
        read_curves(folder / "metrics.csv"),
        _rows(folder / "summary.csv"),
    )


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Logged values of a metrics.csv by name; empty if there is none."""
    curves: dict[str, list[tuple[int, float]]] = {}
    if not path.is_file():
        return curves
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not (row.get("step") or "").isdigit():
                continue  # half a line of a killed run
            for key, text in row.items():
                value = _float(text)
                if key and key not in ("step", "epoch") and value is not None:
                    curves.setdefault(key, []).append((int(row["step"]), value))
    return curves


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{key: text if _float(text) is None else _float(text) for key, text in row.items()} for row in rows]


def _float(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError):
        return {}
