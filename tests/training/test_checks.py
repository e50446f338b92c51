"""What a training refuses before it starts, and which keys take whole numbers only."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from fusion.errors import ConfigError
from fusion.job.schema import takes_whole_numbers
from fusion.training.checks import check_crops, check_sharding


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (64, "data.crop_size=64: SimpleNamespace takes crops .* multiples of 112 pixels: data.crop_size=112$"),
        ([300, 224], r"data.crop_size=\[300, 224\]: .*: data.crop_size=\[336,224\]$"),
    ],
)
def test_crops_that_the_windows_do_not_take_are_refused(side, said):
    with pytest.raises(ConfigError, match=said):
        check_crops(SimpleNamespace(size_multiple=112), {"crop_size": side})


@pytest.mark.parametrize("side", [None, 112, [224, 112]])
def test_other_crops_are_taken(side):
    check_crops(SimpleNamespace(size_multiple=112), {"crop_size": side})
    check_crops(SimpleNamespace(), {"crop_size": 63})


def test_an_average_of_sharded_weights_is_refused_before_processes_start():
    config = {"trainer": {"strategy": {"_target_": "fusion.training.FSDP"}}, "callbacks": {"ema": {"decay": 0.9}}}
    with pytest.raises(ConfigError, match=r"add callbacks\.ema=null"):
        check_sharding(config)
    check_sharding(config | {"callbacks": {"ema": None}})
    check_sharding(config | {"trainer": {"strategy": "auto"}})


def test_whole_numbers_are_known_by_rule_and_by_annotation():
    cfg = OmegaConf.create(
        {
            "model": {"_target_": "fusion.models.tcmoa.TCMoA", "num_experts": 4, "prompt_lr_scale": 1, "weights": None},
            "trainer": {"max_epochs": 2, "limit_val_batches": 2},
            "optimizer": {"lr": 1, "unknown": 3},
        }
    )
    whole = ["model.num_experts", "model.tau_shift", "trainer.max_epochs", "data.batch_size"]
    others = [
        "model.prompt_lr_scale",
        "model.weights",
        "trainer.limit_val_batches",
        "optimizer.lr",
        "optimizer.unknown",
    ]
    assert all(takes_whole_numbers(cfg, "train", key) for key in whole)
    assert not any(takes_whole_numbers(cfg, "train", key) for key in [*others, "nothing", "model.nothing"])
