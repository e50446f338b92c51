"""More than two sources: a method's own rule where it has one, else a scheme that repeats the fusion of two.

    own    the method's rule for any number of sources (`FusionModel.fuse_all`)
    tree   a tournament: the brightest source is fused with the darkest, the second with the last but one, ...; then the results
    pairs  every pair is fused; the results are blended by how well the sources of a pair show a place
    fold   the first two, the result with the third, and so on, in the order given: the only scheme that depends on it

For methods without a rule of their own "auto" takes pairs for "mff" and tree for all else, which was best by measurement:
experiments/many_sources. A tree of n sources costs n - 1 fusions of two, pairs up to n (n - 1) / 2.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from fusion.errors import ConfigError, DataError
from fusion.layers.box import box
from fusion.layers.color import split_luma
from fusion.models.inputs import Image, describe_arrays, image_list, read_list
from fusion.models.many_color import fuse_many_in_color
from fusion.models.memory import memory_limit
from fusion.models.output import FusionOutput

SCHEMES = ("auto", "own", "tree", "pairs", "fold")
SPARE = 0.2
"""Weight, of 1, that the pairs that are left out may have together at any place: frames never in focus side by side."""
Fuse = Callable[[Tensor, Tensor], Tensor]
"""Fuses two batches `(B, 3, H, W)`."""
Model = Any
"""A `FusionModel`, whose module imports this one."""


def check_scheme(many: str, model: Model = None, task: str = "vif") -> str:
    """The scheme that is used; without a model only its name is checked.

    Raises:
        ConfigError: an unknown scheme, or "own" for a model without a rule of its own.
    """
    if many not in SCHEMES:
        raise ConfigError(f"many={many}: expected one of {', '.join(SCHEMES)}")
    if model is None or many not in ("auto", "own"):
        return many
    if many == "own" and not model.fuses_all:
        raise ConfigError(
            f"many=own: {type(model).__name__} has no rule for more than two sources; take many=tree, pairs or fold"
        )
    return "own" if model.fuses_all else "pairs" if task == "mff" else "tree"


def fuse_many(
    model: Model,
    images: Sequence[Image],
    task: str = "vif",
    many: str = "auto",
    color: str = "auto",
    range: Any = "auto",
    max_memory: int | float | str | None = None,
    **controls: Any,
) -> FusionOutput:
    """Fuse two sources or more, in evaluation mode and without gradients; see `FusionModel.fuse`.

    Two sources are `a` and `b`, in this order. Of more the order does not matter, except with `many="fold"`, for colour rules
    that name a source, and for what a result takes over from the first file (metadata).

    Returns:
        Output as of two sources; prompts have a channel per source, in the order given. `extras["many"]` names the scheme.

    Raises:
        DataError: fewer than two sources, or some that do not fit.
        ConfigError: an unknown scheme.
    """
    images = list(images)
    if len(images) < 2:
        raise DataError(f"{len(images)} source: expected two or more")
    if len(images) == 2:
        check_scheme(many)
        return model.fuse(images[0], images[1], task, color=color, range=range, max_memory=max_memory, **controls)
    model.refuse_untrained()
    limit = memory_limit(model.max_memory if max_memory is None else max_memory, model.device)
    scheme = check_scheme(many, model, task)
    sources = read_list(images, range)
    batches = image_list(images if sources is None else sources.images, model.device)
    with evaluating(model):
        output = fuse_many_in_color(
            lambda chosen: run_scheme(model, chosen, task, scheme, controls, limit), batches, color, model.native_color
        )
    output.fused = output.fused.float().clamp(0, 1)
    output.extras["many"] = scheme
    output.sources = sources if sources is not None else describe_arrays(*images)
    return output


def run_scheme(
    model: Model,
    images: Sequence[Tensor],
    task: str,
    scheme: str,
    controls: dict[str, Any],
    limit: int | None = None,
) -> FusionOutput:
    """Fuse batches `(B, 3, H, W)` by a scheme; the images of a batch are sorted one by one."""
    outputs = [
        _run_one(model, [x[i : i + 1] for x in images], task, scheme, controls, limit) for i in range(len(images[0]))
    ]
    if len(outputs) == 1:
        return outputs[0]
    prompts = [torch.cat(maps) for maps in zip(*(one.prompts for one in outputs), strict=True)]
    return FusionOutput(torch.cat([one.fused for one in outputs]), prompts=prompts, sites=outputs[0].sites)


def _run_one(
    model: Model,
    images: list[Tensor],
    task: str,
    scheme: str,
    controls: dict[str, Any],
    limit: int | None,
) -> FusionOutput:
    order = list(range(len(images))) if scheme == "fold" else by_brightness(images)
    chosen = [images[i] for i in order]
    if scheme == "own":
        output = model.fuse_all(chosen, task, limit=limit, **controls)
        place = [order.index(i) for i in range(len(images))]
        output.prompts = [prompt[:, place] for prompt in output.prompts]
        return output
    color = "rgb" if model.native_color == "rgb" else "auto"  # colour was dealt with for all sources at once

    def two(a: Tensor, b: Tensor) -> Tensor:
        return model.fuse(a, b, task, color=color, max_memory=limit, **controls).fused

    if scheme == "pairs":
        return FusionOutput(pairs(two, chosen, task))
    return FusionOutput({"tree": tree, "fold": fold}[scheme](two, chosen))


def by_brightness(images: Sequence[Tensor]) -> list[int]:
    """Places of the images `(1, 3, H, W)`, the brightest first; equally bright ones by contrast.

    In a pair the brighter one becomes `a`, as an over-exposed source is. Sums are in float64, so that nothing depends on the
    order in which the images come.
    """
    keys = []
    for image in images:
        values = image.double()
        keys.append((-float(values.sum()), -float(values.square().sum()), -float(values[..., ::2].sum())))
    return sorted(range(len(images)), key=lambda index: keys[index])


def tree(two: Fuse, images: Sequence[Tensor]) -> Tensor:
    """A balanced tournament in rounds: the first with the last, and so on inwards; one in the middle waits for the next round.

    Args:
        two: fuses a pair.
        images: `(1, 3, H, W)`, the brightest first; results are sorted again.
    """
    left = list(images)
    while len(left) > 1:
        half = len(left) // 2
        met = [two(left[i], left[-1 - i]) for i in range(half)] + left[half : len(left) - half]
        left = [met[i] for i in by_brightness(met)]
    return left[0]


def fold(two: Fuse, images: Sequence[Tensor]) -> Tensor:
    """One after the other."""
    fused = images[0]
    for image in images[1:]:
        fused = two(fused, image)
    return fused


def pairs(two: Fuse, images: Sequence[Tensor], task: str = "vif") -> Tensor:
    """All pairs, blended with weights w_i w_j, where w is the softmax over the sources of their visibility.

    Args:
        two: fuses a pair.
        images: the sources.
        task: "mef" weighs all pairs alike, since what is dark shows the noise of the sensor as its detail.
    """
    chosen = list(combinations(range(len(images)), 2))
    if task == "mef":
        return torch.stack([two(images[i], images[j]) for i, j in chosen]).mean(0)
    weights = torch.stack([visibility(image) for image in images]).softmax(0)  # (n, B, 1, H, W)
    shares = {(i, j): weights[i] * weights[j] + 1e-12 for i, j in chosen}
    total, fused = torch.zeros_like(weights[0]), torch.zeros_like(images[0])
    for i, j in _kept(shares):
        fused = fused + shares[i, j] * two(images[i], images[j])
        total = total + shares[i, j]
    return fused / total


def _kept(shares: dict[tuple[int, int], Tensor]) -> list[tuple[int, int]]:
    """The pairs that matter: the least are left out as long as they have little weight together everywhere."""
    total = torch.stack(list(shares.values())).sum(0)
    spared, kept = torch.zeros_like(total), []
    for pair in sorted(shares, key=lambda pair: float((shares[pair] / total).amax())):
        more = spared + shares[pair] / total
        if float(more.amax()) <= SPARE:
            spared = more
        else:
            kept.append(pair)
    return kept


def visibility(image: Tensor) -> Tensor:
    """How well a source shows each place, `(B, 1, H, W)`: twice the log energy of fine detail in 9x9 pixels."""
    luma = split_luma(image)[0]
    energy = box((luma - box(luma, 3)).square(), 9)
    return 2 * (energy + 4e-6).log()


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards all parts are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training
