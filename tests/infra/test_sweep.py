"""Sweeps that can be killed and started again, and what they say of themselves."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fusion.errors import ConfigError
from fusion.job.records import checkpoint_to_continue, job_state, set_aside
from fusion.job.sweep import Sweep, identity, label, locked, to_run

Door = Callable[..., Any]


def job(folder: Path, name: str, status: str, seconds: float = 1.0) -> None:
    """A job's record as a job leaves it."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "job.json").write_text(json.dumps({"status": status, "seconds": seconds}))


def planned(folder: Path, *seeds: int) -> Sweep:
    """A sweep over N and the seed."""
    sweep = Sweep.open(folder, "fusion.train", ["model.num_experts=2,4", f"seed={','.join(map(str, seeds))}"])
    for experts in (2, 4):
        for seed in seeds:
            given = ["model=x", f"model.num_experts={experts}", f"seed={seed}"]
            sweep.add(given, ["model.num_experts", "seed"])
    return sweep


def values(folder: Path) -> list[dict[str, str]]:
    """Rows of a table."""
    with folder.open() as file:
        return list(csv.DictReader(file))


def test_killed_twice_and_started_again_is_finished(
    door: Door, process: Door, tiny_overrides: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    arguments = [*tiny_overrides, "callbacks.images=null", "callbacks.last.every_n_train_steps=1"]
    arguments += ["trainer.limit_train_batches=2", "model.limit=4", "model.width=2,8,4"]
    kill = (
        "+callbacks.kill={_target_: tinyfusion.KillAt, step: 3, marker: '${paths.output_dir}/killed'}"  # each job once
    )
    first = process("train", "-m", *arguments, kill, f"hydra.sweep.dir={folder}")
    assert first.returncode == -signal.SIGKILL
    assert "sweep of 2 jobs" in first.stdout and "left out 1 of 3 combinations, which cannot work:" in first.stdout
    assert "1 x model: width=8 is above limit=4" in first.stdout
    assert job_state(folder / "0") == "interrupted" and not (folder / "1").exists()

    second = process("train", "-m", *arguments, kill, f"hydra.sweep.dir={folder}")
    assert second.returncode == -signal.SIGKILL
    assert "1 interrupted, going on; 1 to start" in second.stdout
    assert "job 0: width=2   (1 of 2)   goes on where it stopped" in second.stdout
    assert [job_state(folder / name) for name in "01"] == ["finished", "interrupted"]

    third = door("train", "--config-dir", tiny_overrides[1], f"resume={folder}")
    assert third.status == 0, third.err
    assert "1 finished, skipped; 1 interrupted, going on" in third.out
    assert "job 1: width=4   (2 of 2, about 0:00:" in third.out
    for name in "01":
        manifest = json.loads((folder / name / "run.json").read_text())
        assert [part["status"] for part in manifest["parts"]] == ["running", "finished"]
        assert json.loads((folder / name / "results.json").read_text())["global_step"] == 4
    assert [row["model.width"] for row in values(folder / "sweep.csv")] == ["2", "4"]
    assert (folder / "sweep.png").is_file() and str(folder / "sweep.png") in third.out

    fourth = door("train", "--config-dir", tiny_overrides[1], f"resume={folder}")
    assert fourth.status == 0 and "sweep of 2 jobs" in fourth.out and "2 finished, skipped" in fourth.out


def test_a_failed_job_does_not_stop_the_rest_and_is_tried_again(
    door: Door, tiny_overrides: list[str], tmp_path: Path
) -> None:
    arguments = [*tiny_overrides, "trainer.max_epochs=1", "trainer.limit_train_batches=1", "callbacks=none"]
    arguments += ["monitor.metric=val/psnr,val/nothing", "model.width=2,4", f"hydra.sweep.dir={tmp_path}"]
    first = door("train", "-m", *arguments, "hydra.sweeper.max_jobs=3")
    assert "max_jobs: 3 now, 1 wait for the next call" in first.out
    assert "go on with: python -m fusion.train resume=" in first.out
    last = first.err.strip().splitlines()[-2:]
    assert first.status == 2 and last[0] == "error: 1 job(s) of this sweep failed:"
    assert last[1].startswith("error: job 2 (metric=val/nothing width=2): monitor.metric=val/nothing is not computed")
    assert [job_state(tmp_path / str(index)) for index in range(3)] == ["finished", "finished", "failed"]
    again = door("train", "-m", *arguments)
    assert "2 finished, skipped; 1 failed, tried again; 1 to start" in again.out
    assert "error: 2 job(s) of this sweep failed:" in again.err


def test_a_refused_sweep_changes_nothing(door: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    base = [*tiny_overrides, "trainer.max_epochs=1", "trainer.limit_train_batches=1", f"hydra.sweep.dir={tmp_path}"]
    assert door("train", "-m", *base, "seed=1,2").status == 0
    # The lock is touched, and a table that is written again has a new date.
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused = door("train", "-m", *base, "optimizer.lr=0.5,0.9")
    assert refused.status == 2 and "holds another sweep: " in refused.err and "optimizer.lr" in refused.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    # Hydra's own sweeper asks nobody: the runs refuse, and the table goes by what they say themselves.
    door("train", "-m", *base, "optimizer.lr=0.5,0.9", "hydra/sweeper=basic")
    shown = door("analyze", "kind=sweep", f"dir={tmp_path}", f"run_dir={tmp_path / 'table'}")
    assert shown.status == 0 and "optimizer.lr" not in (tmp_path / "table" / "sweep.csv").read_text()

    more = door("train", "-m", *base, "seed=1,2,3")  # further values of the same key
    assert more.status == 0 and "2 finished, skipped; 1 to start" in more.out
    assert OmegaConf.load(tmp_path / "2" / "config.yaml").seed == 3


def test_keys_that_only_swept_models_have_are_given_as_choices(
    door: Door, tiny_overrides: list[str], tmp_path: Path
) -> None:
    given = ["-m", *(line for line in tiny_overrides if not line.startswith("model="))]
    given += ["model=choice(tinyfusion)", f"hydra.sweep.dir={tmp_path}"]
    refused = door("train", *given, "model.limit=4")
    assert refused.status == 2 and "is given as model.limit=choice(VALUE)" in refused.err.strip().splitlines()[-1]
    taken = door("train", *given, "model.width=choice(1000)", "model.limit=choice(4)")
    assert taken.status == 2 and "model: width=1000 is above limit=4" in taken.err


def test_table_results_and_wandb_say_the_same_of_one_epoch(
    door: Door, offline: Callable[[Path], Any], tiny_overrides: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "lab" / "rates"
    artifacts = "callbacks.board.artifacts=true"
    rates = ["logger=csv_wandb", "optimizer.lr=0.001,0.3", artifacts, f"hydra.sweep.dir={folder}"]
    done = door("train", "-m", *tiny_overrides, *rates)
    assert done.status == 0, done.err
    assert "Each job at the best epoch by val/psnr:" in done.out
    for row in values(folder / "sweep.csv"):
        logged = [line for line in values(folder / row["job"] / "metrics.csv") if line["val/psnr"]]
        best = max(logged, key=lambda line: float(line["val/psnr"]))
        assert row["epoch"] == str(int(float(best["epoch"])) + 1)
        run = offline(folder / row["job"])
        assert (run.name, run.group, run.job_type) == (f"lr{row['optimizer.lr']}", "lab/rates", "train")
        assert {"tinyfusion", "miniature", "sweep"} <= set(run.tags)
        assert run.metrics["val/psnr"].summary.max and run.summary["best/epoch"] == int(row["epoch"])
        assert run.summary["val/psnr"]["max"] == pytest.approx(float(row["val/psnr"]))
        for name in ("val/psnr", "val/vif/psnr"):
            assert float(row[name]) == pytest.approx(float(best[name]), rel=1e-6)
            assert run.summary[f"best/{name}"] == pytest.approx(float(row[name]), rel=1e-6)
        assert run.history["val/scores/nrows"][0] == 5 and run.history["val/pictures/nrows"][0] == 2
        assert run.history["val/panel/_type"][0] == "image-file" and len(run.history["norm/gradient"]) == 12
        assert run.history["norm/ema_distance"][-1] > 0
        assert run.config["pairs"]["train"]["vif"] == {"pairs": 6, "task": "vif"} and run.config["overrides"]
        assert {kind for kind, _ in run.artifacts} == {"run_table", "config", "model"}


def test_jobs_are_found_by_their_overrides_and_ordered(tmp_path: Path) -> None:
    first = planned(tmp_path, 0, 1)
    first.save()
    for name, status in (("0", "finished"), ("1", "failed"), ("2", "running")):
        job(tmp_path, name, status)
    wider = planned(tmp_path, 0, 1, 2)
    assert [entry.name for entry in wider.jobs] == ["0", "1", "4", "2", "3", "5"]
    assert [entry.label for entry in wider.jobs][:3] == ["N2 s0", "N2 s1", "N2 s2"]
    assert [entry.name for entry in to_run(wider)] == ["2", "1", "4", "3", "5"]  # the interrupted one first
    assert [entry.name for entry in to_run(wider, "reverse", 2)] == ["2", "5"]
    assert [entry.name for entry in to_run(wider, "seeds_last")] == ["2", "1", "3", "4", "5"]
    assert sorted(entry.name for entry in to_run(wider, "random")) == ["1", "2", "3", "4", "5"]
    wider.check_same(["model.num_experts", "seed"])
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.order=best: expected one of grid, reverse"):
        to_run(wider, "best")
    with pytest.raises(ConfigError, match="max_jobs=0"):
        to_run(wider, max_jobs=0)


def test_two_processes_do_not_drive_one_sweep(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ConfigError, match="another process is running this sweep"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_labels_use_the_letters_of_the_papers() -> None:
    given = ["model.num_experts=4", "seed=0", "model.top_k=2", "model.tau=4", "model/router=softmax", "run_dir=x"]
    keys = ["seed", "model.num_experts", "model.top_k", "model.tau", "model/router"]
    assert label(given, keys) == "N4 K2 tau4 router=softmax s0"
    assert "run_dir" not in identity(given)


def test_a_job_without_a_checkpoint_starts_anew_and_keeps_what_it_left(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"parts": [{"status": "running"}]}))
    (tmp_path / "metrics.csv").write_text("step\n")
    assert job_state(tmp_path) == "interrupted" and checkpoint_to_continue(tmp_path) is None
    place = set_aside(tmp_path)
    assert place is not None and (place / "metrics.csv").is_file() and not (tmp_path / "run.json").exists()
    assert set_aside(tmp_path) is None
