"""A signal at every chosen point of a training: at calls and returns of the functions that run, log and save it.

A training of a known configuration makes the same calls each time. `points` lists them, `stop_at` sends the signal at one of
them, exactly; so every moment between two writes is tried, which random moments hit by luck.
"""

import csv
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

PLACES = (
    "fusion/training/fit", "fusion/training/checkpoint_io", "fusion/training/callbacks/checkpoints",
    "fusion/training/callbacks/loggers", "fusion/training/callbacks/best_epoch", "fusion/training/callbacks/ema",
    "fusion/training/signals", "fusion/job/runs", "fusion/files",
    "lightning/pytorch/loops/fit_loop", "lightning/pytorch/loops/training_epoch_loop",
    "lightning/pytorch/loops/evaluation_loop", "lightning/pytorch/trainer/call", "lightning/pytorch/trainer/trainer",
    "lightning/pytorch/trainer/connectors/logger_connector/logger_connector",
    "lightning/pytorch/trainer/connectors/signal_connector", "lightning/pytorch/callbacks/model_checkpoint",
)  # fmt: skip
"""Modules in whose functions the signal may come."""


class Point(NamedTuple):
    """The nth call or return in a training."""

    index: int
    name: str

    def __str__(self) -> str:
        return f"{self.index} {self.name}"


def watched(seen: Callable[[str], None]) -> Callable[[FrameType, str, Any], None]:
    """A profile function that tells calls and returns in `PLACES`."""
    known: dict[Any, str | None] = {}

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return"):
            return
        code = frame.f_code
        if code not in known:
            place = next((p for p in PLACES if code.co_filename.endswith(f"{p}.py")), None)
            known[code] = None if place is None else f"{place.rpartition('/')[2]}.{code.co_qualname}"
        if known[code] is not None:
            seen(f"{event} {known[code]}")

    return look


def in_child(work: Callable[[], Any], log: Path) -> int:
    """Status of `work` done in a fork of this process: 0, 1 and a traceback, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)
            work()
            status = 0
        except SystemExit as stop:
            status = 143 if type(stop).__name__ == "SIGTERMException" else 130
        except KeyboardInterrupt:
            status = 130
        except BaseException:
            traceback.print_exc()
        finally:
            sys.setprofile(None)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def configuration(data: Path, *more: str) -> DictConfig:
    """The composed configuration of a training of two epochs of four steps each.

    Args:
        data: folder as `bench.pairs` makes it, of two training pairs.
        more: overrides.
    """
    import bench
    from hydra import compose, initialize_config_dir

    from fusion.job.config import config_dir

    arguments = bench.training(data, "trainer.max_epochs=2", "data.batch_size=1", "run_dir=none", *more)[2:]
    arguments += [f"callbacks.{name}=null" for name in ("routing", "board", "norms")]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", [*arguments, f"hydra.searchpath=[file://{bench.PLUGIN / 'conf'}]"])


def train(config: DictConfig, folder: Path, resume: str | None = None) -> None:
    """Train in this process as `python -m fusion.train` would."""
    from fusion.training import fit

    config = OmegaConf.create(OmegaConf.to_container(config))  # type: ignore[assignment]
    OmegaConf.update(config, "paths.output_dir", str(folder))
    OmegaConf.update(config, "resume", resume)
    fit.train(config)


def points(config: DictConfig, folder: Path, log: Path) -> list[Point]:
    """Every call and return of an undisturbed training, which is left in the folder."""
    listed = log.with_suffix(".points")

    def work() -> None:
        names: list[str] = []
        sys.setprofile(watched(names.append))
        train(config, folder)
        sys.setprofile(None)
        listed.write_text("\n".join(names))

    assert in_child(work, log) == 0, log.read_text()
    return [Point(index, name) for index, name in enumerate(listed.read_text().splitlines())]


def stop_at(point: Point, number: int, config: DictConfig, folder: Path, log: Path) -> int:
    """Train, with the signal at one point; how the process ended."""
    count = -1

    def seen(name: str) -> None:
        nonlocal count
        count += 1
        if count == point.index:
            sys.setprofile(None)
            assert name == point.name, f"{name} in place of {point}"
            os.kill(os.getpid(), number)

    def work() -> None:
        sys.setprofile(watched(seen))
        train(config, folder)

    return in_child(work, log)


def go_on(config: DictConfig, folder: Path, log: Path) -> int:
    """Go on as a user would: resume what there is to resume, else the same command again."""
    from fusion.job.records import checkpoint_to_continue

    kept = checkpoint_to_continue(folder)
    return in_child(lambda: train(config, folder, None if kept is None else str(kept)), log)


def distinct(all_points: Iterable[Point]) -> list[Point]:
    """The first and the last of the points of each name."""
    first: dict[str, Point] = {}
    last: dict[str, Point] = {}
    for point in all_points:
        first.setdefault(point.name, point)
        last[point.name] = point
    return sorted({*first.values(), *last.values()})


def left_by(folder: Path) -> dict[str, Any]:
    """What has to be equal of two finished trainings: weights, counters, rows of metrics.csv, results, names of files."""
    kept = {name: torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("last", "best")}
    loops = {key: value for key, value in kept["last"]["loops"]["fit_loop"].items() if "progress" in key}
    results = json.loads((folder / "results.json").read_text())
    results.pop("best_checkpoint")
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "weights": {key: value.numpy().tobytes() for key, value in kept["last"]["state_dict"].items()},
        "best": {key: value.numpy().tobytes() for key, value in kept["best"]["state_dict"].items()},
        "loops": {key: value["total"] for key, value in loops.items() if isinstance(value, dict) and "total" in value},
        "stepped": kept["last"]["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"],
        "rows": rows,
        "results": results,
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if _counts(path, folder)),
    }


def _counts(path: Path, folder: Path) -> bool:
    """Files, but not those that a new start sets aside by design."""
    aside = path.relative_to(folder).parts[0].startswith("attempt_")
    return path.is_file() and not aside and not path.match("config.*.yaml")


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What differs, in words."""
    found = [key for key in theirs if ours[key] != theirs[key]]
    return [f"{key}: {_difference(ours[key], theirs[key])}" for key in found]


def _difference(ours: Any, theirs: Any) -> str:
    if isinstance(theirs, dict):
        keys = [key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)]
        return ", ".join(f"{key}: {ours.get(key)!s:.60} in place of {theirs.get(key)!s:.60}" for key in keys)
    if isinstance(theirs, list):
        return f"too many {[x for x in ours if x not in theirs]}, missing {[x for x in theirs if x not in ours]}"
    return f"{ours} in place of {theirs}"
