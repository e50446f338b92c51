"""Searches and launchers: what they need, what they do with jobs that cannot work, and that they start again."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from fusion.job.config import config_dir
from fusion.job.records import job_state
from fusion.job.sweep import group_of

Door = Callable[..., Any]
ROOT = Path(__file__).parents[2]
QUICK = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "callbacks=none"]


def test_a_search_keeps_its_study_drops_the_impossible_and_goes_on(
    door: Door, tiny_overrides: list[str], tmp_path: Path
) -> None:
    search = [*tiny_overrides, *QUICK, "hydra/sweeper=optuna", "model.limit=4", "model.width=2,8", "monitor.mode=min"]
    search += ["data.batch_size=interval(1,2)", "model.backbone_seed=interval(1,9)"]  # whole numbers
    search += [
        "optimizer.lr=tag(log,interval(1e-4,1e-2))",
        f"hydra.sweep.dir={tmp_path}",
        "hydra.sweeper.sampler=random",
    ]
    first = door("train", "-m", *search, "hydra.sweeper.n_trials=2")
    assert first.status == 0, first.err
    assert "0 of 2 trials finished, minimize what training gives back" in first.out
    assert "best of 2 trials: " in first.out and "model.width=2" in first.out
    assert [job_state(tmp_path / name) for name in "01"] == ["finished", "finished"]
    for name in "01":
        config = OmegaConf.load(tmp_path / name / "config.yaml")
        assert config.data.batch_size in (1, 2) and config.model.backbone_seed in range(1, 10)
        assert isinstance(config.model.backbone_seed, int) and 1e-4 <= config.optimizer.lr <= 1e-2
    (tmp_path / "1" / "job.json").write_text(json.dumps({"status": "running"}))
    (tmp_path / "1" / "results.json").unlink()
    again = door("train", "-m", *search, "hydra.sweeper.n_trials=2")
    assert again.status == 0 and "2 of 2 trials finished" in again.out and not (tmp_path / "2").exists()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    further = door("train", *tiny_overrides[:2], f"resume={moved}", "hydra.sweeper.n_trials=3")  # still a search
    assert further.status == 0, further.err
    groups = {json.loads((moved / "sweep.json").read_text())["group"], group_of(moved)}
    assert groups == {f"{tmp_path.parent.name}/{tmp_path.name}"}  # as W&B knows the jobs from before the move
    assert "2 of 3 trials finished" in further.out and job_state(moved / "2") == "finished"


@pytest.mark.parametrize(
    ("package", "arguments", "said"),
    [
        (
            "optuna",
            ["hydra/sweeper=optuna", "model.width=2,4"],
            "needs the package optuna: pip install 'image-fusion[sweep]'",
        ),
        (
            "hydra_plugins.hydra_joblib_launcher",
            ["hydra/launcher=joblib"],
            "hydra-joblib-launcher: pip install 'image-fusion[sweep]'",
        ),
        (
            "hydra_plugins.hydra_submitit_launcher",
            ["hydra/launcher=submitit_slurm"],
            "launcher: pip install 'image-fusion[slurm]'",
        ),
    ],
)
def test_a_missing_package_gets_one_line(
    door: Door, tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    package: str, arguments: list[str], said: str,
) -> None:  # fmt: skip
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else real(name, *rest))
    if package == "optuna":
        monkeypatch.setitem(sys.modules, "optuna", None)
    done = door("train", "-m", *tiny_overrides, *QUICK, "seed=0,1", *arguments, f"hydra.sweep.dir={tmp_path}")
    assert done.status == 2 and said in done.err.strip().splitlines()[-1] and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model.width=4"], "nothing to search"),
        (["model.width=2,4", "hydra.sweeper.sampler=best"], "hydra.sweeper.sampler=best: expected one of tpe"),
        (["optimizer.lr=interval(0.1,0.01)"], "optimizer.lr"),
        (["data.batch_size=interval(1,2.5)"], "data.batch_size: interval(1,2.5): this key takes whole numbers"),
    ],
)
def test_searches_that_cannot_be_are_refused(
    door: Door, tiny_overrides: list[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = door(
        "train", "-m", *tiny_overrides, *QUICK, "hydra/sweeper=optuna", *arguments, f"hydra.sweep.dir={tmp_path}"
    )
    assert done.status == 2 and said in done.err.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], ["hydra/launcher=submitit_local"]],
    ids=["joblib", "submitit"],
)
def test_launchers_run_jobs_side_by_side(
    process: Door, tiny_overrides: list[str], tmp_path: Path, launcher: list[str]
) -> None:
    done = process("train", "-m", *tiny_overrides, *QUICK, "seed=0,1", *launcher, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert [job_state(tmp_path / name) for name in "01"] == ["finished", "finished"]
    assert "| 0   | 0 " in done.stdout and "| 1   | 1 " in done.stdout


@pytest.mark.slow
def test_submitit_gives_every_device_a_process(process: Door, tiny_overrides: list[str], tmp_path: Path) -> None:
    two = ["trainer=ddp_cpu", "hydra/launcher=submitit_local", f"hydra.sweep.dir={tmp_path}"]
    done = process("train", "-m", *tiny_overrides, "trainer.max_epochs=1", "seed=0", *two)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "0" / "results.json").read_text())["global_step"] == 4  # of 6 for one process
    assert len(list((tmp_path / ".submitit").glob("*/*_log.out"))) == 2


@pytest.mark.slow
def test_every_job_of_a_sweep_has_processes_of_its_own(
    process: Door, tiny_overrides: list[str], tmp_path: Path
) -> None:
    two = ["trainer=ddp_cpu", "seed=0,1", "trainer.max_epochs=1", f"hydra.sweep.dir={tmp_path}"]
    done = process("train", "-m", *tiny_overrides, *two)
    assert done.returncode == 0, done.stderr
    for name in "01":
        assert json.loads((tmp_path / name / "results.json").read_text())["global_step"] == 4


@pytest.mark.slow
def test_the_torchrun_example_trains_and_resumes(tiny_overrides: list[str], tmp_path: Path) -> None:
    script = ROOT / "experiments" / "cluster" / "torchrun.sh"
    plugin = Path(__file__).parent / "plugin"
    given = {"GPUS": "2", "TRAINER": "ddp_cpu", "RUN_DIR": str(tmp_path / "run"), "MASTER": "localhost:29544"}
    given |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    given |= {"PYTHONPATH": f"{plugin}{os.pathsep}{ROOT}", "FUSION_TRUSTED_PACKAGES": "tinyfusion"}
    command = ["bash", str(script), *tiny_overrides, "trainer.max_epochs=1"]
    done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["global_step"] == 4


def test_the_sweep_that_wandb_drives_composes() -> None:
    import hydra

    sweep = yaml.safe_load((ROOT / "experiments" / "cluster" / "wandb_sweep.yaml").read_text())
    fixed = [word for word in sweep["command"] if "=" in word]
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        for pick in (0, -1):
            chosen = {
                key: space["values"][pick] if "values" in space else space[("min", "max")[pick]]
                for key, space in sweep["parameters"].items()
            }
            cfg = hydra.compose("train", [*fixed, *(f"{key}={value}" for key, value in chosen.items())])
            assert cfg.model.num_experts == chosen["model.num_experts"] and cfg.optimizer.lr == chosen["optimizer.lr"]
            assert cfg.monitor.metric == sweep["metric"]["name"] and cfg.monitor.mode == "max"
            assert any("Wandb" in str(node._target_) or "wandb" in str(node._target_) for node in cfg.logger.values())
