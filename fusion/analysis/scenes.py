"""Image pairs for looking into models: spread over each task, at sizes at which every token lies on its pixels."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.data.dataset import PairDataset
from fusion.errors import ConfigError
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput


@dataclass(frozen=True)
class Scene:
    """One pair: `a` and `b` are `(1, 3, H, W)` in [0, 1] on the model's device."""

    task: str
    dataset: str
    name: str
    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class Study:
    """What an analysis works on.

    Attributes:
        model: in evaluation mode.
        scenes: gives the pairs, anew at each call.
        folder: where tables and figures go.
        options: keys of the kind in conf/analyze.yaml.
    """

    model: FusionModel
    scenes: Callable[[], Iterable[Scene]]
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    def observe(self) -> Iterator[tuple[Scene, FusionOutput]]:
        """Every pair with what the model makes of it."""
        return ((scene, run(self.model, scene)) for scene in self.scenes())


def run(model: FusionModel, scene: Scene, **controls: Any) -> FusionOutput:
    """The model's forward pass on a pair, without padding or tiles, so that maps and images share one frame."""
    with torch.inference_mode():
        return model(scene.a, scene.b, scene.task, **controls)


def scenes(
    datasets: Iterable[PairDataset], per_task: int | None, max_side: int | None, model: FusionModel
) -> Iterator[Scene]:
    """Pairs of each task, evenly spread over its data sets.

    Args:
        datasets: where to take them from.
        per_task: how many of each task; None takes all.
        max_side: pixels of the longer side that larger images are shrunk to; None keeps their size.
        model: its `size_multiple` decides the final size: each side goes to the nearest multiple.

    Raises:
        ConfigError: impossible numbers, or no pairs.
        DataError: pairs that are missing or unreadable.
    """
    if per_task is not None and per_task < 1:
        raise ConfigError(f"pairs_per_task={per_task}: expected at least 1, or null for all pairs")
    if max_side is not None and max_side < 1:
        raise ConfigError(f"max_side={max_side}: expected a number of pixels, or null to keep the size")
    by_task: dict[str, list[tuple[PairDataset, int]]] = {}
    for dataset in datasets:
        by_task.setdefault(dataset.task, []).extend((dataset, index) for index in range(len(dataset)))
    if not any(by_task.values()):
        raise ConfigError("data: this part has no pairs to look at; choose another data=NAME or part=")
    for found in by_task.values():
        count = len(found) if per_task is None else min(per_task, len(found))
        for dataset, index in (found[i * len(found) // count] for i in range(count)):
            sample = dataset.load(index)
            a, b = (_fit(sample[key], max_side, model.size_multiple).to(model.device) for key in ("a", "b"))
            yield Scene(sample["task"], sample["dataset"], sample["name"], a, b)


def _fit(image: Tensor, max_side: int | None, multiple: int) -> Tensor:
    image = image[None].float() / 255
    scale = min(1.0, max_side / max(image.shape[-2:])) if max_side else 1.0
    size = tuple(max(1, round(side * scale / multiple)) * multiple for side in image.shape[-2:])
    if size == tuple(image.shape[-2:]):
        return image
    return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def no_such_thing(kind: str, what: str, model: FusionModel) -> ConfigError:
    """The line for a model that has nothing to show of a kind."""
    name = type(model).__name__
    return ConfigError(f"kind={kind}: {name} as configured has no {what}; choose another model or part of it")
