"""Groups that belong to one method lie under it; their short names are understood, and explained in yaml files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fusion.api import compose
from fusion.job.aliases import PARTS, full_overrides
from fusion.job.config import config_dir


@pytest.mark.parametrize("part", PARTS)
def test_a_short_name_means_a_group_of_its_method(part: str) -> None:
    group, node = PARTS[part]
    assert (config_dir() / group).is_dir() and not (config_dir() / part).exists()
    assert full_overrides([f"+{part}=x", f"{part}@model.fuser.part=y", f"~{part}"]) == [
        f"+{group}@{node}=x",
        f"{group}@model.fuser.part=y",
        f"~{group}@{node}",
    ]


def test_other_overrides_stay() -> None:
    kept = ["model.attention.sigma=1", "-m", "model/router=softmax", "model/localised=x", "name=model/local=none"]
    assert full_overrides(kept) == kept


@pytest.mark.parametrize(
    ("model", "override", "key", "target"),
    [
        ("moe_fusion", "model/attention=saliency", "attention", "fusion.models.moe_fusion.SaliencyAttention"),
        ("gifnet", "model/loss/weighting=fixed", "loss.weighting", "fusion.models.gifnet.FixedWeights"),
        ("toar", "model/regulation=text_sum", "regulation", "fusion.models.toar.TextSum"),
        (
            "segformer",
            "model/segmenter@model.network=small",
            "network",
            "fusion.downstream.segmentation.PyramidSegmenter",
        ),
    ],
)
def test_short_names_compose(model: str, override: str, key: str, target: str) -> None:
    node = OmegaConf.create(compose("predict", [f"model={model}", override], "model"))
    assert OmegaConf.select(node, key)["_target_"] == target


def test_a_short_name_in_a_yaml_file_is_answered_by_the_full_one(door: Callable, tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(
        "# @package _global_\ndefaults: [{override /model: toar}, {override /model/regulation: static}, _self_]\n"
    )
    done = door("train", "--config-dir", str(tmp_path), "experiment=mine")
    assert done.status == 2
    answer = "'model/regulation' is now 'model/toar/regulation@model.regulation'"
    assert answer in done.err and "conf/experiment/mine.yaml" in done.err
