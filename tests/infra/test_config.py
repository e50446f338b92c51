"""Configurations are checked before anything is built, and become plain containers."""

from functools import partial
from typing import Any

import pytest
from omegaconf import OmegaConf

from fusion.errors import ConfigError
from fusion.job.config import check, flatten, instantiate, nearest, plain

AVERAGE = "fusion.models.baselines.Average"


def test_nested_targets_are_checked_with_their_path() -> None:
    config = {"outer": {"list": [{"_target_": AVERAGE, "wieght": 0.1}]}}
    with pytest.raises(
        ConfigError, match=r"unknown key 'outer\.list\.0\.wieght'; did you mean 'outer\.list\.0\.weight'"
    ):
        check(config)


def test_keywords_of_base_classes_are_known() -> None:
    config = {"model": {"_target_": AVERAGE, "eval_metrics": ["ssim"]}}
    assert check(config) == config


def test_required_keywords_are_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"'schedule\.optimizer' is missing"):
        check({"schedule": {"_target_": "fusion.training.warmup_cosine", "steps_per_epoch": 1, "epochs": 1}})
    check({"schedule": {"_target_": "fusion.training.warmup_cosine", "_partial_": True}})


def test_check_config_hook_gets_plain_values_and_the_path_is_named(plugin: None) -> None:
    config = OmegaConf.create({"top": 9, "model": {"_target_": "tinyfusion.TinyFusion", "width": "${top}", "limit": 8}})
    with pytest.raises(ConfigError, match=r"^model: width=9 is above limit=8$"):
        check(config)


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "torch.serialization.os.system", "subprocess.run"])
def test_only_trusted_packages_are_run(target: str) -> None:
    with pytest.raises(ConfigError, match="_target_"):
        check({"model": {"_target_": target}})
    with pytest.raises(ConfigError, match="_target_"):
        instantiate({"_target_": target})


@pytest.mark.parametrize("target", ["fusion.nothing.Here", "fusion.models.baselines.Nobody", "torch.nn"])
def test_targets_that_do_not_exist(target: str) -> None:
    with pytest.raises(ConfigError, match=target.replace(".", r"\.")):
        check({"model": {"_target_": target}})


def test_missing_value_and_broken_interpolation_name_their_key() -> None:
    with pytest.raises(ConfigError, match=r"'a\.b' has no value yet: add a\.b=VALUE"):
        plain(OmegaConf.create({"a": {"b": "???"}}))
    with pytest.raises(ConfigError, match="'a'"):
        plain(OmegaConf.create({"a": "${nowhere}"}))


def test_built_objects_hold_plain_containers() -> None:
    config = OmegaConf.create({"_target_": "torch.optim.AdamW", "_partial_": True, "betas": [0.9, 0.95]})
    built: partial[Any] = instantiate(config)
    assert type(built.keywords["betas"]) is list


def test_extra_arguments_are_passed_on_as_they_are() -> None:
    marker: list[Any] = []
    model = instantiate({"_target_": AVERAGE}, scheduler=marker)
    assert model.scheduler is marker


def test_mistakes_raised_while_building_come_out_as_they_are() -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        instantiate({"_target_": "fusion.training.callbacks.wandb_logger", "save_dir": ".", "mode": "sometimes"})


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("model.topk", "model.top_k"),
        ("top_k", "model.top_k"),
        ("modle.num_experts", "model.num_experts"),
        ("trainer.epochs", "trainer.max_epochs"),
        ("zzz.qqq", None),
    ],
)
def test_nearest(word: str, expected: str | None) -> None:
    known = ["model.top_k", "model.num_experts", "model.tau", "trainer.max_epochs", "seed"]
    assert nearest(word, known) == expected


def test_flatten_keeps_lists_of_values() -> None:
    assert flatten({"a": {"b": [1, 2]}, "c": [{"d": 3}]}) == {"a.b": [1, 2], "c.0.d": 3}
