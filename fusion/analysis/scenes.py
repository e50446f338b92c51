"""Image pairs for looking into models: spread over each task, in their own proportions, every token on its pixels."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.data.dataset import PairDataset
from fusion.errors import ConfigError
from fusion.models.base import FusionModel
from fusion.models.inputs import reflect_to_multiple
from fusion.models.output import FusionOutput
from fusion.moe.routing import Routing


@dataclass(frozen=True)
class Scene:
    """One pair on the model's device: `a`, `b` `(1, 3, H, W)` in [0, 1], and `boxes` `(n, 4)` xyxy in pixels where it has some."""

    task: str
    dataset: str
    name: str
    a: Tensor
    b: Tensor
    boxes: Tensor | None = None


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
    """The model's forward pass on a pair as a whole, without tiles.

    Where the model needs larger sides the pair is extended by reflection, and what lies on the extension is cut off
    again: fused images, prompts and routings are of the pair alone, so that maps and images share one frame. A model that
    takes boxes gets those of the pair.
    """
    if scene.boxes is not None and "boxes" in model.image_controls:
        controls = {"boxes": [scene.boxes], **controls}
    size = scene.a.shape[-2:]
    a, b = (reflect_to_multiple(image, model.size_multiple) for image in (scene.a, scene.b))
    with torch.inference_mode():
        output = model(a, b, scene.task, **controls)
    return output if a.shape[-2:] == size else _cut(output, size, a.shape[-2:])


def _cut(output: FusionOutput, size: Sequence[int], whole: Sequence[int]) -> FusionOutput:
    prompts = [prompt[..., : _inside(prompt.shape[-2:], size, whole)[0], :] for prompt in output.prompts]
    prompts = [
        prompt[..., : _inside(full.shape[-2:], size, whole)[1]]
        for prompt, full in zip(prompts, output.prompts, strict=True)
    ]
    routings = [_cut_routing(routing, size, whole) for routing in output.routings]
    return replace(output, fused=output.fused[..., : size[0], : size[1]], prompts=prompts, routings=routings)


def _cut_routing(routing: Routing, size: Sequence[int], whole: Sequence[int]) -> Routing:
    if len(routing.shape) != 3:
        return routing  # one decision for the whole image
    height, width = _inside(routing.shape[1:], size, whole)

    def inner(values: Tensor) -> Tensor:
        return values.unflatten(0, routing.shape)[:, :height, :width].flatten(0, 2)

    weights = inner(routing.weights)
    logits = inner(routing.logits) if routing.logits is not None else None
    load = (weights > 0).sum(0).to(routing.load.dtype)
    return Routing(weights, weights.sum(0), load, logits, (routing.shape[0], height, width))


def _inside(grid: Sequence[int], size: Sequence[int], whole: Sequence[int]) -> tuple[int, int]:
    """Tokens of a grid over the whole that lie on the image."""
    height, width = (max(1, round(n * inner / full)) for n, inner, full in zip(grid, size, whole, strict=True))
    return height, width


def scenes(
    datasets: Iterable[PairDataset], per_task: int | None, max_side: int | None, model: FusionModel
) -> Iterator[Scene]:
    """Pairs of each task, evenly spread over its data sets.

    Args:
        datasets: where to take them from.
        per_task: how many of each task; None takes all.
        max_side: pixels of the longer side that larger images are shrunk to, in proportion; None keeps their size.
        model: at its tokens' borders images are cut, by at most 15 pixels at the right and the bottom.

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
            boxes = sample.get("boxes")
            if boxes is not None:
                boxes = (boxes * _scale(sample["a"], max_side)).to(model.device)
            yield Scene(sample["task"], sample["dataset"], sample["name"], a, b, boxes)


def _fit(image: Tensor, max_side: int | None, multiple: int) -> Tensor:
    image = image[None].float() / 255
    scale = _scale(image, max_side)
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in image.shape[-2:])
        image = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    token = math.gcd(multiple, 16)  # patches of 8 or 16 pixels
    height, width = (max(token, side // token * token) for side in image.shape[-2:])
    return reflect_to_multiple(image, token)[..., :height, :width]  # smaller than a token: extended


def _scale(image: Tensor, max_side: int | None) -> float:
    return min(1.0, max_side / max(image.shape[-2:])) if max_side else 1.0


def no_such_thing(kind: str, what: str, model: FusionModel) -> ConfigError:
    """The line for a model that has nothing to show of a kind."""
    name = type(model).__name__
    return ConfigError(f"kind={kind}: {name} as configured has no {what}; choose another model or part of it")
