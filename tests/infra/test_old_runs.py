"""Runs and checkpoints that were saved before modules moved: `tests/data/old_run` is one, of a very small TC-MoA."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf

from fusion import load_model
from fusion.job.aliases import MODULES, renamed, with_present_names
from fusion.job.config import check

Door = Callable[..., Any]
OLD_RUN = Path(__file__).parents[1] / "data" / "old_run"
PLUGIN = Path(__file__).parent / "plugin"
OLD_NAMES = (
    "fusion.callbacks.checkpoints.LastCheckpoint",
    "fusion.callbacks.ema.EMA",
    "fusion.callbacks.finite_guard.FiniteGuard",
    "fusion.callbacks.images.ImageLogger",
    "fusion.callbacks.loggers.MetricsCSV",
    "fusion.callbacks.loggers.wandb_logger",
    "fusion.callbacks.progress.progress",
    "fusion.callbacks.routing_monitor.RoutingMonitor",
    "fusion.callbacks.step_seed.StepSeed",
    "fusion.data.datamodule.FusionDataModule",
    "fusion.data.sets.folders.Folders",
    "fusion.data.sets.synthetic.SyntheticPairs",
    "fusion.data.transforms.train_transform",
    "fusion.downstream.schedules.poly",
    "fusion.downstream.schedules.triangular",
    "fusion.downstream.tasks.DetectionTask",
    "fusion.downstream.tasks.SaliencyTask",
    "fusion.downstream.tasks.SegmentationTask",
    "fusion.layers.mae.MAE",
    "fusion.losses.feature_gradient.DenseNetWeights",
    "fusion.losses.feature_gradient.FixedWeights",
    "fusion.losses.feature_gradient.ImageGradientWeights",
    "fusion.models.toar.TaskTurns",
    "fusion.models.toar.ramp_cosine",
    "fusion.optim.constant",
    "fusion.optim.multi_step",
    "fusion.optim.warmup_cosine",
)


@pytest.mark.parametrize("name", OLD_NAMES)
def test_every_name_that_configurations_had_still_means_something(name: str) -> None:
    assert callable(get_object(renamed(name)))


def test_faces_of_moved_modules_exist() -> None:
    for face in MODULES.values():
        assert get_object(face).__all__


def test_names_are_changed_inside_lists_and_flat_keys() -> None:
    old = {
        "a": [{"_target_": "fusion.optim.constant", "x": 1}],
        "b.c._target_": "fusion.layers.mae.MAE",
        "_target_": "torch.nn.ReLU",
    }
    assert with_present_names(old) == {
        "a": [{"_target_": "fusion.training.constant", "x": 1}],
        "b.c._target_": "fusion.layers.MAE",
        "_target_": "torch.nn.ReLU",
    }


def test_an_old_configuration_is_accepted() -> None:
    config = check(OmegaConf.load(OLD_RUN / "config.yaml"))
    assert config["model"]["backbone"]["_target_"] == "fusion.layers.MAE"


def test_an_old_checkpoint_loads_and_fuses() -> None:
    model = load_model(ckpt_path=OLD_RUN)
    saved = torch.load(OLD_RUN / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert saved and all(torch.equal(model.state_dict()[key], value) for key, value in saved.items())
    assert model.fuse(torch.rand(3, 30, 25), torch.rand(3, 30, 25), task="vif").fused.shape == (1, 3, 30, 25)


def test_an_old_run_goes_on(door: Door, miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(OLD_RUN, tmp_path / "run")
    shutil.copytree(miniature, tmp_path / "miniature")
    monkeypatch.chdir(tmp_path)
    done = door("train", "--config-dir", str(PLUGIN / "conf"), "resume=run", "trainer.max_epochs=2")
    assert done.status == 0, done.err
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12
