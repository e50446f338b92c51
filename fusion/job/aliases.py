"""Former names of objects and groups, which saved runs and users still write: they are understood."""

from collections.abc import Mapping, Sequence
from typing import Any

MODULES = {
    "fusion.callbacks.checkpoints": "fusion.training.callbacks",
    "fusion.callbacks.contact_sheet": "fusion.training.callbacks",
    "fusion.callbacks.ema": "fusion.training.callbacks",
    "fusion.callbacks.finite_guard": "fusion.training.callbacks",
    "fusion.callbacks.images": "fusion.training.callbacks",
    "fusion.callbacks.loggers": "fusion.training.callbacks",
    "fusion.callbacks.prediction_writer": "fusion.training.callbacks",
    "fusion.callbacks.progress": "fusion.training.callbacks",
    "fusion.callbacks.routing_monitor": "fusion.training.callbacks",
    "fusion.callbacks.step_seed": "fusion.training.callbacks",
    "fusion.data.datamodule": "fusion.data",
    "fusion.data.depth": "fusion.data",
    "fusion.data.export": "fusion.data",
    "fusion.data.joint": "fusion.data",
    "fusion.data.loader": "fusion.data",
    "fusion.data.pair_synthesis": "fusion.data",
    "fusion.data.sampler": "fusion.data",
    "fusion.data.samples": "fusion.data",
    "fusion.data.sets.synthetic": "fusion.data",
    "fusion.data.sice": "fusion.data",
    "fusion.data.transforms": "fusion.data",
    "fusion.downstream.schedules": "fusion.training",
    "fusion.downstream.tasks": "fusion.downstream",
    "fusion.layers.mae": "fusion.layers",
    "fusion.losses.feature_gradient": "fusion.models.gifnet",
    "fusion.models.toar.schedule": "fusion.training",
    "fusion.models.toar.turns": "fusion.data",
    "fusion.optim": "fusion.training",
}
"""Modules as they were called, and the packages that export what configurations named of them."""

OBJECTS = {
    "fusion.callbacks.progress.progress": "fusion.training.callbacks.progress_bar",
    "fusion.models.toar.TaskTurns": "fusion.data.TaskTurns",
    "fusion.models.toar.ramp_cosine": "fusion.training.ramp_cosine",
}
"""Single objects that moved or changed their name."""

PARTS = {
    "model/attention": ("model/moe_fusion/attention", "model.attention"),
    "model/decoder": ("model/moe_fusion/decoder", "model.decoder"),
    "model/gate": ("model/gifnet/gate", "model.gate"),
    "model/instructions": ("model/toar/instructions", "model.instructions"),
    "model/local": ("model/moe_fusion/local", "model.local"),
    "model/loss/weighting": ("model/gifnet/weighting", "model.loss.weighting"),
    "model/regulation": ("model/toar/regulation", "model.regulation"),
    "model/segmenter": ("model/segformer/network", "model.network"),
    "model/text_encoder": ("model/toar/text_encoder", "model.text_encoder"),
}
"""Short names of groups that belong to one method: the group, and the node that it fills."""


def full_group(key: str) -> str | None:
    """The group that a short name such as `model/attention`, with or without `@NODE`, means; None for other keys."""
    group, _, node = key.partition("@")
    if group not in PARTS:
        return None
    return f"{PARTS[group][0]}@{node or PARTS[group][1]}"


def full_overrides(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments or overrides with the full names of groups: `model/attention=none` is short for
    `model/moe_fusion/attention@model.attention=none`.
    """
    found = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        full = full_group(key.lstrip("+~"))
        prefix = key[: len(key) - len(key.lstrip("+~"))]
        found.append(argument if full is None else f"{prefix}{full}{equals}{value}")
    return found


def renamed(target: str) -> str:
    """The present name of a `_target_`."""
    if target in OBJECTS:
        return OBJECTS[target]
    module, _, name = target.rpartition(".")
    return f"{MODULES[module]}.{name}" if module in MODULES else target


def with_present_names(tree: Any) -> Any:
    """A configuration, nested or flattened into dotted keys, whose every `_target_` has its present name."""
    if isinstance(tree, list):
        return [with_present_names(item) for item in tree]
    if not isinstance(tree, Mapping):
        return tree
    return {
        key: renamed(value)
        if isinstance(value, str) and str(key).rsplit(".", 1)[-1] == "_target_"
        else with_present_names(value)
        for key, value in tree.items()
    }
