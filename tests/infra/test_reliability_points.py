"""A signal at any call of a training costs nothing: the resumed run leaves what the undisturbed one leaves."""

import csv
import importlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fusion.training.callbacks.loggers import MetricsCSV

EXPERIMENTS = Path(__file__).parents[2] / "experiments" / "reliability"

CRITICAL = (
    "return signal_connector._SignalConnector.register_signal_handlers",
    "return checkpoints.LastCheckpoint.on_train_start",
    "call checkpoints.LastCheckpoint.on_train_batch_end",
    "return loggers.MetricsCSV.save",
    "call checkpoints.LastCheckpoint.on_train_epoch_end",
    "return checkpoint_io.AtomicCheckpointIO.save_checkpoint",
    "call checkpoints.LastCheckpoint.on_train_end",
    "return checkpoints.LastCheckpoint.on_train_end",
    "call runs.RunFolder.write_results",
)
"""Between a write and the next one; each is tried where it comes first and last."""


@pytest.fixture
def points(plugin: None, undo_globals: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """experiments/reliability/points.py."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    known = set(sys.modules)
    yield importlib.import_module("points")
    for name in ("points", "bench"):
        if name not in known:
            sys.modules.pop(name, None)


def test_a_signal_at_any_call_costs_nothing(points: ModuleType, tmp_path: Path) -> None:
    import bench

    config = points.configuration(bench.pairs(tmp_path / "data", train=2, val=1))
    points.train(config, tmp_path / "warm")  # here, so that the forks find everything imported
    calls = points.points(config, tmp_path / "whole", tmp_path / "log")
    expected = points.left_by(tmp_path / "whole")
    assert len(expected["rows"]) == 8 and expected["results"]["metrics"]
    distinct = points.distinct(calls)
    chosen = [point for point in distinct if point.name in CRITICAL]
    assert {point.name for point in chosen} == set(CRITICAL)
    chosen += distinct[:: len(distinct) // 6]
    numbers = (signal.SIGTERM, signal.SIGKILL)
    for place, point in enumerate(sorted(chosen)):
        number, run = numbers[place % 2], tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        ended = points.stop_at(point, number, config, run, tmp_path / "log")
        assert ended != 1, (point, (tmp_path / "log").read_text())
        if ended:
            assert points.go_on(config, run, tmp_path / "log") == 0, (point, (tmp_path / "log").read_text())
        assert not points.differing(points.left_by(run), expected), (number.name, point)


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("steps_before", [1, 2, 3])
def test_new_columns_after_a_resume_keep_every_row(tmp_path: Path, steps_before: int) -> None:
    def log(logger: MetricsCSV, steps: range) -> None:
        for step in steps:
            for metrics in (
                {"lr": 0.1},
                {"vif": 1.0} if step % 2 == 0 else {"mef": 2.0},
                {"late": 3.0} if step > 2 else {},
            ):
                logger.log_metrics({**metrics, "epoch": 0}, step)
                logger.save()

    log(MetricsCSV(str(tmp_path), "whole.csv"), range(5))
    log(MetricsCSV(str(tmp_path), "parts.csv"), range(steps_before))
    log(MetricsCSV(str(tmp_path), "parts.csv"), range(steps_before, 5))
    assert rows(tmp_path / "parts.csv") == rows(tmp_path / "whole.csv") and len(rows(tmp_path / "whole.csv")) == 5


@pytest.mark.parametrize(
    "arguments",
    [["run_dir="], ["run_dir=''"], ["run_dir=null"], ["hydra.run.dir="], ["-m", "hydra.sweep.dir=", "seed=1,2"],
     ["run_dir=${oc.env:NOWHERE,''}"]],
)  # fmt: skip
def test_an_empty_folder_is_refused_before_anything_is_written(
    door: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command, given in (("train", ["model=average"]), ("benchmark", ["model=average"])):
        told = door(command, *given, *arguments)
        assert told.status == 2 and "_dir=" in told.err.replace(".dir=", "_dir=") and "expected a path" in told.err
        assert told.err.count("\n") == 1 and not list(tmp_path.iterdir())
