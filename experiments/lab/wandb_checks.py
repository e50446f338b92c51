"""What Weights & Biases would show of a sweep, read from its offline files and held against the sweep's own table."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import wandb_file

from fusion.job.records import read_json

Add = Callable[..., None]
TOLERANCE = 1e-6


def check(folder: Path, temp: Path, add: Add) -> None:
    """Hold the offline files of every job against what they are meant to show.

    Args:
        folder: of the sweep, with its `sweep.csv`.
        temp: temporary folder of its processes.
        add: takes a claim, whether it holds, and what was found.
    """
    with (folder / "sweep.csv").open(newline="", encoding="utf-8") as file:
        table = {row["job"]: row for row in csv.DictReader(file)}
    labels = {job["name"]: job["label"] for job in read_json(folder / "sweep.json")["jobs"]}
    runs = {name: wandb_file.read(folder / name) for name in labels}
    names = [run.name for run in runs.values()]
    add("W&B: every run has a name that says what differs", names == list(labels.values()), ", ".join(names))
    add("W&B: and an identity of its own", len({run.id for run in runs.values()}) == len(runs), len(runs))
    group = "/".join(folder.parts[-2:])
    add("W&B: group", {run.group for run in runs.values()} == {group}, group)
    add("W&B: job type", {run.job_type for run in runs.values()} == {"train"}, "train")
    tags = {tuple(run.tags) for run in runs.values()}
    add("W&B: tags", all({"tcmoa_tiny", "samples", "sweep"} <= set(given) for given in tags), tags)
    _numbers(runs, table, add)
    _media(folder, runs, add)
    _state(runs, add)
    left = sorted(path.name for path in temp.iterdir() if "wandb" in path.name)
    add("W&B: the killed processes left nothing in the temporary folder", not left, left or "nothing")


def _numbers(runs: Mapping[str, Any], table: Mapping[str, Mapping[str, str]], add: Add) -> None:
    best, epoch, every, worst = 0, 0, 0, 0.0
    for name, run in runs.items():
        row = table[name]
        found = run.summary.get("val/qabf")
        shown = found.get("max") if isinstance(found, dict) else None
        best += shown is not None and abs(shown - float(row["val/qabf"])) < TOLERANCE
        epoch += run.summary.get("best/epoch") == int(row["epoch"])
        apart = [abs(run.summary[f"best/{key}"] - float(row[key])) for key in row if key.startswith("val/")]
        every += max(apart) < TOLERANCE
        worst = max([worst, *apart])
    defined = sum(run.metrics["val/qabf"].summary.max for run in runs.values())
    add("W&B: define_metric asks for the maximum of val/qabf", defined == len(runs), f"{defined} runs")
    add("W&B: best val/qabf in the summary is that of the sweep's table", best == len(runs), f"{best} runs")
    add("W&B: so is the best epoch", epoch == len(runs), f"{epoch} runs")
    add("W&B: so are all val/ numbers of that epoch", every == len(runs), f"largest difference {worst:.1e}")


def _media(sweep: Path, runs: Mapping[str, Any], add: Add) -> None:
    scores = pictures = panels = 0
    columns: list[str] = []
    for name, run in runs.items():
        folder = sweep / name
        table = _table(run, "val/scores")
        scores += len(table["data"]) == 6 and {"epoch", "task", "name", "qabf", "ssim"} <= set(table["columns"])
        shown = _table(run, "val/pictures")
        columns = shown["columns"]
        files = [path for name, path in run.staged.items() if name.startswith("media/images/")]
        kept = all(path.is_file() and folder in path.parents for path in files)
        pictures += len(shown["data"]) == 6 and {"a", "b", "fused"} <= set(columns) and len(files) >= 18 and kept
        panels += run.media(run.history["val/panel/path"][-1]) is not None
    total = len(runs)
    add("W&B: tables of scores, one row per validation pair", scores == total, f"{scores} runs, 6 rows each")
    add("W&B: tables of pictures, every file in the run folder", pictures == total, ", ".join(columns))
    add("W&B: panels", panels == total, f"{panels} runs")
    sites = [
        sorted(k for k in run.history if k.startswith("routing/") and k.endswith("/experts/values"))
        for run in runs.values()
    ]
    held = all(sites) and all({key.split("/")[1] for key in keys} == {"vif", "mef", "mff"} for keys in sites)
    counted = all(
        len(run.history[key][-1]) == run.config["model.num_experts"]
        for run, keys in zip(runs.values(), sites, strict=True)
        for key in keys
    )
    add(
        "W&B: histograms of the gates by task and site, a bin per expert", held and counted, f"{len(sites[0])} of job 0"
    )
    norms = ("norm/gradient", "norm/weights", "norm/ema_distance")
    add("W&B: norms", all(run.history.get(key) for run in runs.values() for key in norms), ", ".join(norms))


def _state(runs: Mapping[str, Any], add: Add) -> None:
    keys = (
        "git",
        "versions",
        "hardware",
        "pairs",
        "overrides",
        "model.num_experts",
        "model.top_k",
        "model.tau",
        "seed",
    )
    add(
        "W&B: state of code and data as configuration",
        all(k in run.config for run in runs.values() for k in keys),
        ", ".join(keys),
    )
    kinds = [{kind for kind, _ in run.artifacts} for run in runs.values()]
    add(
        "W&B: config file and best checkpoint as artifacts",
        all({"config", "model"} <= k for k in kinds),
        sorted(kinds[0]),
    )


def _table(run: Any, key: str) -> dict[str, Any]:
    """The last table that was logged under a key; an empty one if its file is gone."""
    paths = run.history.get(f"{key}/path") or [""]
    file = run.media(paths[-1])
    return json.loads(file.read_text(encoding="utf-8")) if file is not None else {"columns": [], "data": []}
