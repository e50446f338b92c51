"""What trainer=gpu and ddp bring along, and what stays with an experiment or the command line."""

from functools import partial

import hydra
import pytest
import torch

from fusion.job.config import config_dir
from fusion.training.fit import fused


def compose(root, *overrides):
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra.compose(root, list(overrides))


@pytest.mark.parametrize("trainer", ["gpu", "ddp"])
def test_settings_come_with_the_trainer(trainer):
    cfg = compose("train", f"trainer={trainer}")
    assert cfg.trainer.accelerator == "gpu" and cfg.trainer.precision == "bf16-mixed" and cfg.trainer.benchmark
    assert cfg.matmul_precision == "high" and cfg.channels_last and cfg.fused_optimizer
    assert (cfg.data.num_workers, cfg.data.prefetch_factor, cfg.data.pin_memory) == (8, 4, True)
    assert (trainer == "ddp") == ("strategy" in cfg.trainer and cfg.trainer.strategy != "auto")


def test_other_trainers_change_nothing_else():
    cfg = compose("train", "trainer=cpu")
    assert cfg.matmul_precision == "highest" and not cfg.channels_last and not cfg.fused_optimizer
    assert cfg.trainer.precision == "32-true" and cfg.data.num_workers == 4


def test_experiments_and_the_command_line_have_the_last_word():
    cfg = compose("train", "experiment=tcmoa_large", "trainer=gpu", "data.num_workers=2", "matmul_precision=highest")
    assert cfg.trainer.precision == "16-mixed"  # the released code's
    assert cfg.data.num_workers == 2 and cfg.matmul_precision == "highest"


def test_evaluation_is_in_float32_whatever_the_training_was():
    assert compose("evaluate", "experiment=tcmoa_large", "trainer=gpu").trainer.precision == "32-true"
    assert compose("evaluate", "trainer=gpu", "trainer.precision=bf16-mixed").trainer.precision == "bf16-mixed"


class OldOptimizer(torch.optim.Optimizer):
    """An optimiser without a fused form."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})


def test_a_fused_form_is_asked_for_where_there_is_one():
    recipe = partial(torch.optim.AdamW, lr=0.1)
    weight = [torch.nn.Parameter(torch.ones(2))]
    assert fused(recipe, {"precision": "32-true", "gradient_clip_val": 1.0})(weight).defaults["fused"]
    assert fused(recipe, {"precision": "16-mixed"})(weight).defaults["fused"]
    for precision in ("16-mixed", "bf16-mixed"):
        assert not fused(recipe, {"precision": precision, "gradient_clip_val": 1.0})(weight).defaults["fused"]
    assert fused(partial(recipe, fused=False), {})(weight).defaults["fused"] is False
    assert isinstance(fused(partial(OldOptimizer, lr=0.1), {})(weight), OldOptimizer)
    assert fused(None, {}) is None
