"""Whole trainings of a tiny model: what they leave behind, resuming, several processes, sweeps."""

import csv
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

Door = Callable[..., Any]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """State dict of a run's last checkpoint."""
    return load(folder)["state_dict"]


def load(folder: Path, name: str = "last") -> dict[str, Any]:
    """A run's checkpoint, read without running code."""
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def rows(folder: Path) -> list[dict[str, str]]:
    """The run's metrics.csv."""
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts agree bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def settled(folder: Path, pattern: str, patience_s: float = 60) -> list[Path]:
    """What is there once W&B's service, which outlives a killed run by some seconds, has removed its sockets."""
    until = time.monotonic() + patience_s
    while (found := list(folder.glob(pattern))) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def test_a_run_leaves_everything_in_its_folder(door: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = door("train", *tiny_overrides, f"run_dir={folder}", "test_after_fit=true", "+data.test.vif.limit=2")
    assert done.status == 0, done.err
    *first, place, hint = done.out.strip().splitlines()
    assert place == f"run folder: {folder}" and hint == f"report: python -m fusion.report run={folder}"
    assert first[0].startswith("model tinyfusion (TinyFusion): ") and "parameters trained" in first[0]
    assert first[1] == "data: train vif 6, mef 6 pairs, val vif 5 pairs"
    assert first[2].startswith("on the CPU, 1 thread, precision 32-true") and first[3] == f"run folder: {folder}"
    assert "available" not in done.out + done.err and "stopped" not in done.out + done.err

    config = OmegaConf.load(folder / "config.yaml")
    assert config.model.width == 4 and config.paths.output_dir == str(folder)
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["parts"][0]["status"] == "finished"
    assert manifest["parts"][0]["versions"]["torch"]
    results = json.loads((folder / "results.json").read_text())
    assert {"val/psnr", "test/psnr", "test/vif/psnr"} <= results["metrics"].keys()
    assert results["global_step"] == 12

    *logged, tested = rows(folder)
    assert tested["step"] == "12" and float(tested["test/psnr"]) == results["metrics"]["test/psnr"]
    assert [row["step"] for row in logged] == [str(step) for step in range(12)]
    assert all(float(row["train/vif/loss"]) > 0 for row in logged)
    assert results["value"] == pytest.approx(max(float(row["val/psnr"]) for row in logged if row["val/psnr"]))
    panels = sorted(path.name for path in (folder / "images").iterdir())
    assert panels == ["epoch_0000.png", "epoch_0001.png"]

    for name in ("last", "best"):
        checkpoint = load(folder, name)
        assert checkpoint["fusion"]["model"]["_target_"] == "tinyfusion.TinyFusion"
        assert not any(key.startswith("frozen.") for key in checkpoint["state_dict"])
        assert checkpoint["fusion"]["frozen"]["keys"] == ["frozen.bias", "frozen.weight"]

    again = door("train", *tiny_overrides, f"run_dir={folder}")
    assert again.status == 2 and f"resume={folder}" in again.err


def test_killed_and_resumed_equals_undisturbed(
    door: Door, process: Door, tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, killed, temporary = tmp_path / "undisturbed", tmp_path / "killed", tmp_path / "temporary"
    temporary.mkdir()
    ema = "callbacks.ema.eval=true"
    assert door("train", *tiny_overrides, ema, f"run_dir={undisturbed}").status == 0

    kill = f"+callbacks.kill={{_target_: tinyfusion.KillAt, step: 9, marker: {tmp_path / 'killed_once'}}}"
    every = "callbacks.last.every_n_train_steps=4"
    monkeypatch.setenv("TMPDIR", str(temporary))
    first = process("train", *tiny_overrides, ema, every, kill, "logger=csv_wandb", f"run_dir={killed}")
    assert first.returncode == -signal.SIGKILL
    assert settled(temporary, "*wandb*") == [], "a killed process leaves W&B's folders in its run folder"
    assert (killed / ".wandb_media_0").is_dir() and (killed / ".wandb_artifacts_0").is_dir()
    assert load(killed)["global_step"] == 8  # in the middle of the second epoch
    assert json.loads((killed / "run.json").read_text())["parts"][0]["status"] == "running"

    changed = door("train", *tiny_overrides[:2], f"resume={killed}", "model.width=8", "data.batch_size=1")
    assert changed.status == 2
    assert "model.width (was 4, now 8)" in changed.err and "data.batch_size (was 2, now 1)" in changed.err

    # The overrides of the run are remembered: only the folder is given.
    resumed = door("train", *tiny_overrides[:2], f"resume={killed}")
    assert resumed.status == 0, resumed.err
    assert same(weights(killed), weights(undisturbed))
    for key in ("shadow", "raw"):
        expected, got = (checkpoint["callbacks"] for checkpoint in (load(undisturbed), load(killed)))
        name = next(name for name in expected if name.startswith("EMA"))
        assert same(got[name][key], expected[name][key])
    # The first row after a resume has no news yet of the task that was not its turn.
    for ours, theirs in zip(rows(killed), rows(undisturbed), strict=True):
        assert {key: value for key, value in ours.items() if value}.items() <= theirs.items()
        assert ours["val/psnr"] == theirs["val/psnr"] and ours["train/vif/loss"]
    assert [part["status"] for part in json.loads((killed / "run.json").read_text())["parts"]] == [
        "running",
        "finished",
    ]
    assert (killed / "config.1.yaml").is_file()


def test_interrupted_and_continued_as_it_says_equals_undisturbed(
    door: Door, process: Door, tiny_overrides: list[str], tmp_path: Path
) -> None:
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    assert door("train", *tiny_overrides, f"run_dir={undisturbed}").status == 0
    marker = tmp_path / "stopped_once"
    interrupt = f"+callbacks.kill={{_target_: tinyfusion.KillAt, step: 9, signal_name: SIGINT, marker: {marker}}}"
    first = process("train", *tiny_overrides, interrupt, f"run_dir={stopped}")
    assert first.returncode == 130, first.stderr
    assert load(stopped)["global_step"] == 6 and load(stopped, "exception")["global_step"] == 9
    told = re.search(r"continue with: python -m fusion.train (resume=\S+)", first.stdout)
    assert told and told[1].endswith("exception.ckpt")
    resumed = door("train", *tiny_overrides[:2], told[1])
    assert resumed.status == 0, resumed.err
    assert same(weights(stopped), weights(undisturbed))
    assert [row["step"] for row in rows(stopped)] == [str(step) for step in range(12)]
    assert not (stopped / "checkpoints/exception.ckpt").exists()


def test_a_finished_run_can_be_made_longer(door: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    arguments = [argument for argument in tiny_overrides if not argument.startswith("trainer.max_epochs")]
    assert door("train", *arguments, "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}").status == 0
    config_dir = tiny_overrides[:2]
    done = door(
        "train", *config_dir, f"resume={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}", "trainer.max_epochs=3"
    )
    assert done.status == 0, done.err
    assert load(tmp_path / "run")["global_step"] == 18
    assert [row["step"] for row in rows(tmp_path / "run")] == [str(step) for step in range(18)]


def test_resume_without_a_checkpoint_is_refused(door: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    done = door("train", *tiny_overrides, f"resume={tmp_path / 'nowhere'}")
    assert done.status == 2 and "no such run folder" in done.err
    assert not (tmp_path / "nowhere").exists()
    done = door("train", *tiny_overrides, f"resume={tmp_path}")
    assert done.status == 2 and "no checkpoints/last.ckpt in it" in done.err
    (tmp_path / "broken.ckpt").write_bytes(b"nothing")
    done = door("train", *tiny_overrides, f"resume={tmp_path / 'broken.ckpt'}")
    assert done.status == 2 and "broken.ckpt: not a readable checkpoint" in done.err


def test_another_frozen_backbone_is_refused(door: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert door("train", *tiny_overrides, f"run_dir={folder}", "trainer.max_epochs=1").status == 0
    done = door("train", *tiny_overrides[:2], f"resume={folder}", "model.backbone_seed=8", "force_resume=true")
    assert done.status == 2
    assert "frozen backbone 'seed-7'" in done.err and "'seed-8'" in done.err


def test_two_processes_equal_one_with_the_double_batch(
    door: Door, process: Door, tiny_overrides: list[str], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    quiet = "model.noise=0"  # noise differs between ranks by intention
    assert door("train", *tiny_overrides, quiet, "data.batch_size=4", f"run_dir={one}").status == 0
    done = process("train", *tiny_overrides, quiet, "trainer=ddp_cpu", "logger=csv_wandb", f"run_dir={two}")
    assert done.returncode == 0, done.stderr
    assert "on 2 processes on the CPU" in done.stdout + done.stderr

    expected, got = weights(one), weights(two)
    assert expected.keys() == got.keys()
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], rtol=0, atol=1e-6)
    first, second = rows(one), rows(two)
    assert [row["step"] for row in first] == [row["step"] for row in second]
    for ours, theirs in zip(first, second, strict=True):
        for key in ours:
            if ours[key] and not key.startswith("routing/"):
                assert float(theirs[key]) == pytest.approx(float(ours[key]), rel=1e-5, abs=1e-8), key
    assert json.loads((two / "results.json").read_text())["value"] == pytest.approx(
        json.loads((one / "results.json").read_text())["value"], rel=1e-5
    )
    assert len(list((two / "wandb").glob("offline-run-*"))) == 1  # only rank 0 logs


def test_a_failed_run_says_so_everywhere(door: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    done = door("train", *tiny_overrides, "logger=wandb", "callbacks.best.monitor=val/nothing", f"run_dir={tmp_path}")
    assert done.status == 2 and "val/nothing" in done.err
    assert json.loads((tmp_path / "run.json").read_text())["parts"][0]["status"] == "failed"
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    log = (run / "logs" / "debug.log").read_text()
    assert "finishing run" in log and "got exitcode: 1" in log


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.metrics=[qaabf]", "metric 'qaabf'"),
        ("monitor.metric=val/ssim", "val/ssim is not computed; evaluation.metrics give val/psnr"),
        ("trainer.devices=3 trainer.accelerator=gpu", "this machine has 0 GPU"),
        ("model.width=99", "width=99 is above limit=64"),
        ("scheduler.warmup_epochs=-1", "scheduler.warmup_epochs=-1"),
        ("trainer.max_epochs=-1", "trainer.max_epochs"),
        ("trainer.accelerator=abacus", "abacus"),
    ],
)
def test_impossible_trainings_are_refused(
    door: Door, tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    done = door("train", *tiny_overrides, *override.split(), f"run_dir={tmp_path}")
    assert done.status == 2
    assert said in done.err.strip().splitlines()[-1] and "Traceback" not in done.err
