"""What a page can ask of a model: tasks and controls, read off its `forward`."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusion.models.base import FusionModel

TASKS = ("vif", "mef", "mff")
TASK_NAMES = {
    "vif": "visible + infrared",
    "mef": "over- + under-exposed",
    "mff": "far + near focus",
    "medical": "MRI + PET, CT or SPECT",
    "nir": "visible + near-infrared",
    "pansharpening": "panchromatic + bands",
}


@dataclass(frozen=True)
class Slider:
    """A control with a number.

    Attributes:
        label: for people.
        low, high, default: of its value.
        help: what it does.
    """

    label: str
    low: float
    high: float
    default: float
    help: str


SLIDERS = {
    "alpha": Slider("alpha", 0.0, 3.0, 1.0, "0 weighs both sources alike, above 1 sharpens the choice between them"),
    "beta": Slider("beta", -0.5, 0.5, 0.0, "favours a (to the right) or b (to the left)"),
    "strength": Slider("strength", 0.0, 2.0, 1.0, "factor on what the instruction changes; 0 is plain fusion"),
    "gate_scale": Slider("gate scale", 0.0, 3.0, 1.0, "how much of the other branch enters"),
}
"""Controls that the page knows, by the name that `fuse` takes."""


@dataclass(frozen=True)
class Steering:
    """What a model can be asked.

    Attributes:
        tasks: names of its tasks; the first is chosen at the start.
        looks_at_task: whether they change anything.
        sliders: names of its controls among `SLIDERS`.
        mix: tasks whose routers can be mixed.
        instruction: whether it follows a sentence.
    """

    tasks: tuple[str, ...]
    looks_at_task: bool
    sliders: tuple[str, ...]
    mix: tuple[str, ...]
    instruction: bool


def steering_of(model: FusionModel) -> Steering:
    """What a model can be asked."""
    known = inspect.signature(model.forward).parameters
    own = tuple(getattr(model, "tasks", ()))
    branches = getattr(inspect.getmodule(type(model)), "MAIN_BRANCH", None)  # GIFNet
    tasks = (*own, *(task for task in TASK_NAMES if task not in own)) if own else tuple(branches or TASKS)
    follows = "instruction" in known and bool(getattr(model, "is_tailored", True))
    sliders = tuple(name for name in SLIDERS if name in known and (name != "strength" or follows))
    return Steering(tasks, bool(own or branches), sliders, own if "task_weights" in known else (), follows)


def controls_of(
    steering: Steering, values: Mapping[str, Any], mix: Mapping[str, float], sentence: str
) -> dict[str, Any]:
    """What `fuse` gets: controls of this model that differ from what it does by itself.

    Args:
        steering: of the model.
        values: of the sliders by name.
        mix: shares of the tasks' routers; all zero: none.
        sentence: the instruction; empty: none.
    """
    given: dict[str, Any] = {
        name: float(values[name])
        for name in steering.sliders
        if values.get(name) is not None and float(values[name]) != SLIDERS[name].default
    }
    shares = {task: float(mix.get(task) or 0) for task in steering.mix}
    if (total := sum(shares.values())) > 0:
        given["task_weights"] = {task: share / total for task, share in shares.items() if share}
    if steering.instruction and sentence.strip():
        given["instruction"] = sentence.strip()
    return given
