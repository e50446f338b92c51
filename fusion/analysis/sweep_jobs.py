"""The jobs of a sweep as their folders have them: what was set, what came out at which epoch, or why nothing did."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fusion.errors import DataError
from fusion.job.config import flatten

NOT_SWEPT = ("run_dir", "resume", "paths.", "hydra.", "hydra/", "logger", "data.num_workers", "trainer.devices")
"""Keys that say where a job writes, not what it does."""
EPOCHS = ("best", "last")


@dataclass
class Job:
    """One job of a sweep.

    Attributes:
        name: of its folder.
        overrides: keys that were set for it, and their values.
        config: its flat configuration, empty if it left none.
        metrics: its numbers, all of one epoch; empty if it did not finish. Those of `test/` belong to the best checkpoint.
        epoch: the epoch they are of, counted from 1; None if it is not known.
        monitor: name of the monitored metric.
        problem: why there are no numbers.
    """

    name: str
    overrides: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    epoch: int | None = None
    monitor: str | None = None
    problem: str | None = None

    def value(self, key: str) -> Any:
        """Value of a key, as it was set or as the configuration has it."""
        return self.overrides.get(key, self.config.get(key))


def read_jobs(folder: Path, epoch: str = "best") -> list[Job]:
    """The jobs below a sweep's folder, in the order of their numbers.

    Args:
        folder: of the sweep.
        epoch: "best" takes each job's numbers of the epoch with the best monitored value, "last" those of the last one.

    Raises:
        DataError: no such folder, or no job in it.
    """
    if not folder.is_dir():
        raise DataError(f"dir={folder}: no such folder; expected the folder of a sweep, with one folder per job")
    marks = (".hydra/overrides.yaml", "run.json", "results.json", "config.yaml", "job.json")
    found = [path for path in folder.iterdir() if path.is_dir() and any((path / mark).is_file() for mark in marks)]
    if not found:
        raise DataError(
            f"dir={folder}: no job folder in it (one with .hydra/overrides.yaml or results.json); "
            "expected what python -m fusion.train -m ... wrote"
        )
    return [_read(path, epoch) for path in sorted(found, key=lambda path: order(path.name))]


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """Keys whose values differ between the jobs; if none does, all that were set."""
    keys = [key for key in dict.fromkeys(key for job in jobs for key in job.overrides) if not key.startswith(NOT_SWEPT)]
    differing = [key for key in keys if len({json.dumps(job.value(key), sort_keys=True) for job in jobs}) > 1]
    return differing or keys


def order(value: Any) -> tuple[int, float, str]:
    """Sorts numbers by size, before everything else by name."""
    try:
        return 0, float(value), ""
    except (TypeError, ValueError):
        return 1, 0.0, str(value)


def epoch_of_csv(path: Path, monitor: str, mode: str) -> tuple[int, dict[str, float]] | None:
    """Epoch (from 1) and numbers of the validation with the best monitored value in a `metrics.csv`."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{key: _number(text) for key, text in row.items() if key} for row in csv.DictReader(file)]
    able = [row for row in rows if row.get(monitor) is not None and row.get("epoch") is not None]
    if not able:
        return None
    pick = min if mode == "min" else max
    best = pick(able, key=lambda row: row[monitor])  # the first of equals, as checkpoints have it
    values = {key: value for key, value in best.items() if value is not None and key not in ("step", "epoch")}
    return int(best["epoch"]) + 1, values


def _number(text: Any) -> Any:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _read(path: Path, epoch: str) -> Job:
    problems: list[str] = []
    manifest = _load(path / "run.json", problems) or {}
    record = _load(path / "job.json", problems) or {}
    config = flatten(_load(path / "config.yaml", problems) or _load(path / ".hydra" / "config.yaml", problems) or {})
    # What the run says of itself counts: Hydra rewrites its own file also for a run that is then refused.
    lines = manifest.get("overrides") or record.get("overrides") or _load(path / ".hydra" / "overrides.yaml", problems)
    job = Job(path.name, dict(_parse(line) for line in lines or []), config)
    results = _load(path / "results.json", problems)
    if results is not None:
        job.monitor = results.get("monitor")
        job.epoch, metrics = _numbers(path, results, str(config.get("monitor.mode", "max")), epoch)
        first = {job.monitor: metrics[job.monitor]} if job.monitor in metrics else {}
        job.metrics = first | metrics
    if not job.metrics:
        parts = manifest.get("parts") or [{}]
        status = str(parts[-1].get("status", record.get("status", "never started")))
        known = {"running": "still running, or killed", "finished": "finished, but left no numbers"}
        job.problem = problems[0] if problems else known.get(status, status)
        if record.get("error"):
            job.problem += f": {record['error']}"
    return job


def _numbers(path: Path, results: Mapping[str, Any], mode: str, epoch: str) -> tuple[int | None, dict[str, float]]:
    """One epoch's numbers. Runs of earlier versions have the best epoch's in `metrics.csv` alone."""
    last = {name: float(v) for name, v in (results.get("metrics") or {}).items() if isinstance(v, int | float)}
    tests = {name: value for name, value in last.items() if name.startswith("test/")}
    monitor = results.get("monitor")
    if epoch == "best" and monitor:
        best = results.get("best") or {}
        if best.get("metrics"):
            return int(best["epoch"]) + 1, {k: float(v) for k, v in best["metrics"].items()} | tests
        if found := epoch_of_csv(path / "metrics.csv", monitor, mode):
            return found[0], found[1] | tests
        if isinstance(results.get("value"), int | float) and last.get(monitor) != results["value"]:
            return None, {monitor: float(results["value"])} | tests  # the others are of another epoch
    count = results.get("epoch")
    return int(count) if isinstance(count, int) else None, last if epoch == "last" or monitor is None else last | tests


def _load(path: Path, problems: list[str]) -> Any:
    """Content of a JSON or YAML file; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)  # YAML 1.1 reads 1e-05 as a word
    except (yaml.YAMLError, ValueError):
        problems.append(f"{path.name} is damaged")
        return None


def _parse(override: str) -> tuple[str, Any]:
    key, _, value = override.partition("=")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = value
    return key.lstrip("+~").split("@", 1)[0], parsed
