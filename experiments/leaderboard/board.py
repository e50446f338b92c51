"""Fuse data sets with several methods and rank them: tables, tests and a web page per set, in one process.

    python experiments/leaderboard/board.py OUT --data DATA --set vifb --set mfif \\
        --method average --method SeAFusion=seafusion:FILE --method Ours=tcmoa_tiny --folder U2Fusion=DIR

`--method LABEL=CONFIG:WEIGHTS` takes any model of conf/model; LABEL and WEIGHTS may be left out. `--folder LABEL=DIR` ranks the
images of another method. Writes OUT/fused/SET/LABEL/NAME.png, OUT/SET.csv with its tables, and OUT/SET.html. What was fused or
scored before is used again.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fusion.api import compose, load_model
from fusion.data import PairDataset
from fusion.data.files.image import write_image
from fusion.errors import FusionError
from fusion.job.config import check, instantiate
from fusion.models.base import FusionModel
from fusion.scoring import score_folders

SUITES = {"vif": "vifb", "mff": "tcmoa_mff", "mef": "tcmoa_mef"}
"""Suite by the task of a set, where none is given."""


def datasets_of(name: str, data: str, limit: int | None, overrides: Sequence[str]) -> list[PairDataset]:
    """The test sets of a data configuration."""
    config = compose("data", [f"data={name}", f"paths.data_dir={data}", *overrides], "data")
    module = instantiate(check(config, "data"))
    module.prepare_data()
    datasets: list[PairDataset] = list(module.parts["test"].values())
    for dataset in datasets:
        if limit is not None and dataset.limit is None:
            dataset.limit = limit
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
    parser.add_argument("--limit", type=int, help="pairs per set, the first ones")
    parser.add_argument(
        "--suite", help="of metrics; default by task: " + ", ".join(f"{k} {v}" for k, v in SUITES.items())
    )
    parser.add_argument("--published", help="CSV of published rows for the page")
    parser.add_argument("--override", action="append", default=[], help="of the data configuration, data.test.msrs....")
    parser.add_argument("--only-fuse", action="store_true")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    methods = [method_of(text) for text in arguments.method]
    sets = {
        f"{name}_{key}" if len(found) > 1 else name: dataset
        for name in arguments.set
        for found in [datasets_of(name, arguments.data, arguments.limit, arguments.override)]
        for key, dataset in ((dataset.split.casefold(), dataset) for dataset in found)
    }
    for label, config, weights in methods:
        model = load_model(config, weights)
        for name, dataset in sets.items():
            try:
                fuse(dataset, model, arguments.out / "fused" / name / label)
            except FusionError as error:  # a method that does not know the task is left out of its table
                shutil.rmtree(arguments.out / "fused" / name / label, ignore_errors=True)
                print(f"{label} is left out of {name}: {error}")
    for name, dataset in sets.items() if not arguments.only_fuse else ():
        a, b = sources(dataset, arguments.out / "sources" / name)
        fused = {label: arguments.out / "fused" / name / label for label, _, _ in methods}
        fused = {label: str(folder) for label, folder in fused.items() if folder.is_dir()}
        fused |= dict(text.split("=", 1) for text in arguments.folder)
        suite = arguments.suite or SUITES.get(dataset.task, "vifb")
        options: dict[str, Any] = {"suite": compose("score", [f"metrics@suite={suite}", "a=.", "b=."], "suite")}
        options |= {"a": str(a), "b": str(b), "fused": fused, "out": str(arguments.out / f"{name}.csv"), "plot": None}
        options |= {"precision": "float64", "device": "auto", "workers": 0, "resume": True}
        report = str(arguments.out / f"{name}.html")
        score_folders(options | {"report": report, "published": arguments.published})


if __name__ == "__main__":
    main()
