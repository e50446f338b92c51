"""Fuse data sets with several methods and rank them: tables, tests and a web page per set, in one process.

    python experiments/leaderboard/board.py OUT --data DATA --set vifb --set mfif \\
        --method average --method SeAFusion=seafusion:FILE --method Ours=tcmoa_tiny --folder U2Fusion=DIR

`--method LABEL=CONFIG:WEIGHTS` takes any model of conf/model; LABEL and WEIGHTS may be left out. `--folder LABEL=DIR` ranks the
images of another method. Writes OUT/fused/SET/LABEL/NAME.png, OUT/SET.csv with its tables, and OUT/SET.html. What was fused or
scored before is used again.

`--only LABEL` does that method alone anew, with the same command line otherwise: its images are fused and scored again, all other
rows are those of OUT/SET.csv, else of `--scores DIR` (experiments/leaderboard/scores), so that a new version of one model costs
its own time. The page needs the images of every method and is left as it is where some are gone.
"""

import argparse
import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fusion.api import compose, load_model
from fusion.data import PairDataset
from fusion.data.files.image import write_image
from fusion.data.files.selection import select
from fusion.errors import FusionError
from fusion.job.config import check, instantiate
from fusion.metrics.suites import Suite
from fusion.models.base import FusionModel
from fusion.scoring import score_folders
from fusion.scoring.jobs import find_jobs
from fusion.scoring.leaderboard import Values, compare
from fusion.scoring.page import write_page
from fusion.scoring.published import read_published
from fusion.scoring.report import write_report

SUITES = {"vif": "vifb", "mff": "tcmoa_mff", "mef": "tcmoa_mef", "medical": "gifnet", "nir": "gifnet"}
"""Suite by the name of a set or by its task, where none is given."""
SEED = 0
"""Of the pairs that `--limit` draws."""


def datasets_of(name: str, data: str, limit: int | None, overrides: Sequence[str]) -> list[PairDataset]:
    """The test sets of a data configuration."""
    config = compose("data", [f"data={name}", f"paths.data_dir={data}", *overrides], "data")
    module = instantiate(check(config, "data"))
    module.prepare_data()
    datasets: list[PairDataset] = list(module.parts["test"].values())
    for dataset in datasets:
        if limit is not None and dataset.limit is None:
            # of the pairs that are left, such as those with boxes: `dataset.limit` would draw before these are known
            dataset.pairs = select(dataset.pairs, limit=limit, shuffle_seed=SEED, where=name)
    return datasets


def fuse(dataset: PairDataset, model: FusionModel, folder: Path) -> None:
    """Write the fused images that are not there yet."""
    for index, pair in enumerate(dataset.pairs):
        target = folder / f"{pair.name}.png"
        if not target.is_file():
            sample = dataset.load(index)
            write_image(target, model.fuse(sample["a"], sample["b"], task=dataset.task).fused[0].cpu())
            print(f"{folder.name} {pair.name}", flush=True)


def sources(dataset: PairDataset, folder: Path) -> tuple[Path, Path]:
    """The sources under the names of the pairs, as they were read (scene folders have other names)."""
    for key in ("a", "b"):
        for index, pair in enumerate(dataset.pairs):
            target = folder / key / f"{pair.name}.png"
            if not target.is_file():
                write_image(target, dataset.load(index)[key])
    return folder / "a", folder / "b"


def rows_of(path: Path, suite: Suite) -> dict[str, dict[str, dict[str, float]]]:
    """Values per method, image and column of a table per image, as `write_report` leaves it; nothing where there is none."""
    if not path.is_file():
        return {}
    headings = {str(c.key): f"{c.key.name}@{c.key.convention}:{c.key.variant.color}" for c in suite.columns}
    found: dict[str, dict[str, dict[str, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {key: float(row[heading]) for key, heading in headings.items()}
            found.setdefault(row["method"], {})[row["image"]] = values
    return found


def rank(values: Values, folders: Mapping[str, Path], suite: Suite, base: Path, options: Mapping[str, Any]) -> None:
    """Tables of all methods, and the page where the images of all are there."""
    settings = json.loads(base.with_suffix(".json").read_text(encoding="utf-8"))
    board = compare(suite, values)
    write_report(board, {m: dict(rows) for m, rows in values.items()}, settings, base, None)
    if gone := [method for method in values if method not in folders]:
        print(f"{base.with_suffix('.html')} stays as it is: the images of {', '.join(gone)} are not here")
        return
    jobs, _ = find_jobs(Path(options["a"]), Path(options["b"]), {method: folders[method] for method in values})
    published = read_published(options["published"], suite, board.images)
    print(f"page: {write_page(board, values, jobs, settings, base.with_suffix('.html'), published)}")


def method_of(text: str) -> tuple[str, str, str | None]:
    """Label, configuration and weights of `LABEL=CONFIG:WEIGHTS`."""
    label, _, rest = text.rpartition("=")
    config, _, weights = rest.partition(":")
    return label or config, config, weights or None


def main() -> None:
    """Fuse, then score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True, help="folder of the data sets")
    parser.add_argument(
        "--set", action="append", required=True, help="data configuration, such as vifb, tno, msrs, mfif"
    )
    parser.add_argument("--method", action="append", default=[], help="[LABEL=]CONFIG[:WEIGHTS]")
    parser.add_argument(
        "--folder", action="append", default=[], help="LABEL=DIR of another method's images (one set only)"
    )
    parser.add_argument("--limit", type=int, help="pairs per set, drawn by a fixed seed")
    parser.add_argument("--suite", help="of metrics; default: " + ", ".join(f"{k} {v}" for k, v in SUITES.items()))
    parser.add_argument("--only", action="append", default=[], help="LABEL to do anew; all else stays")
    parser.add_argument("--scores", type=Path, help="folder of SET.csv to take other methods' rows from, with --only")
    parser.add_argument("--published", help="CSV of published rows for the page")
    parser.add_argument("--override", action="append", default=[], help="of the data configuration, data.test.msrs....")
    parser.add_argument("--only-fuse", action="store_true")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    methods = [method_of(text) for text in arguments.method]
    if unknown := set(arguments.only) - {label for label, _, _ in methods}:
        parser.error(f"--only {', '.join(sorted(unknown))}: no such --method")
    sets = {
        f"{name}_{key}" if len(found) > 1 else name: (name, dataset)
        for name in arguments.set
        for found in [datasets_of(name, arguments.data, arguments.limit, arguments.override)]
        for key, dataset in ((dataset.split.casefold(), dataset) for dataset in found)
    }
    for label, config, weights in methods:
        if arguments.only and label not in arguments.only:
            continue
        model = load_model(config, weights)
        for name, (_, dataset) in sets.items():
            folder = arguments.out / "fused" / name / label
            if label in arguments.only:
                shutil.rmtree(folder, ignore_errors=True)
            try:
                fuse(dataset, model, folder)
            except FusionError as error:  # a method that does not know the task is left out of its table
                shutil.rmtree(folder, ignore_errors=True)
                print(f"{label} is left out of {name}: {error}")
    for name, (group, dataset) in sets.items() if not arguments.only_fuse else ():
        score(name, group, dataset, [label for label, _, _ in methods], arguments)


def score(name: str, group: str, dataset: PairDataset, labels: Sequence[str], arguments: argparse.Namespace) -> None:
    """Score what has no rows yet, and rank all."""
    out: Path = arguments.out
    a, b = sources(dataset, out / "sources" / name)
    folders = {label: out / "fused" / name / label for label in labels}
    folders |= {label: Path(folder) for label, _, folder in (text.partition("=") for text in arguments.folder)}
    folders = {label: folder for label, folder in folders.items() if folder.is_dir()}
    chosen = arguments.suite or SUITES.get(group) or SUITES.get(dataset.task, "vifb")
    config = compose("score", [f"metrics@suite={chosen}", "a=.", "b=."], "suite")
    suite, table = Suite.from_config(check(config, "suite")), out / f"{name}.csv"
    known: dict[str, Any] = {}
    if arguments.only:
        known = rows_of(table, suite) or (rows_of(arguments.scores / f"{name}.csv", suite) if arguments.scores else {})
    fresh = [label for label in folders if label in arguments.only or label not in known]
    options: dict[str, Any] = {
        "suite": config,
        "a": str(a),
        "b": str(b),
        "published": arguments.published,
        "plot": None,
    }
    options |= {"precision": "float64", "device": "auto", "workers": 0, "resume": True}
    part = out / f"{name}_scored.csv" if known else table
    options |= {"out": str(part), "fused": {label: str(folders[label]) for label in fresh}}
    score_folders(options | {"report": None if known else str(table.with_suffix(".html"))})
    if known:
        shutil.copyfile(part.with_suffix(".json"), table.with_suffix(".json"))
        scored = rows_of(part, suite)
        values = {label: scored.get(label) or known[label] for label in dict.fromkeys([*known, *scored])}
        rank(values, folders, suite, table, options)


if __name__ == "__main__":
    main()
