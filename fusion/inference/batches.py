"""Pairs that are fused in one go: equal in size and kind, and no more of them than pays."""

from collections.abc import Hashable, Sequence
from typing import Any

import torch

from fusion.data.sources import Sources
from fusion.errors import ConfigError
from fusion.models.base import FusionModel
from fusion.models.memory import pixels_at_once
from fusion.models.output import FusionOutput

MOST = 16
"""Pairs of a batch: small pictures fill a device with these."""
PIXELS = 6_000_000
"""Of a batch together: larger ones are no faster, a picture of 640x480 fills a large GPU four at a time."""


def check_batch_size(size: Any) -> int | None:
    """The number of pairs of a batch; None where memory and device decide.

    Raises:
        ConfigError: no such number.
    """
    if size == "auto":
        return None
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    raise ConfigError(f"batch_size={size}: expected auto or a whole number of 1 or more")


def batch_of(sources: Sources, model: FusionModel, limit: int, wanted: int | None = None) -> int:
    """How many pairs like this one are fused at once.

    A CPU works through one picture after the other as fast as through several (measured: several are up to a fifth slower,
    they leave its caches); a GPU is filled.

    Args:
        sources: the pair.
        model: the model.
        limit: bytes for all of them.
        wanted: what the user has chosen.
    """
    pixels = max(sources.images[0].shape[-2] * sources.images[0].shape[-1], 1)
    if wanted is not None:
        return wanted
    if model.device.type == "cpu":
        return 1
    fits = pixels_at_once(limit, model.bytes_per_pixel, pixels, model.device)
    return max(1, min(MOST, PIXELS // pixels, fits // pixels))


def kind_of(sources: Sources, controls: dict[str, Any]) -> Hashable:
    """Pairs of one kind make a batch; None: this one goes alone, as bands and controls by image do."""
    if sources.by_band or any(isinstance(value, list | tuple | torch.Tensor) for value in controls.values()):
        return None
    return tuple(
        (tuple(image.shape), raster.is_gray) for image, raster in zip(sources.images, sources.rasters, strict=True)
    )


def fuse_batch(
    model: FusionModel,
    group: Sequence[Sources],
    task: str,
    color: str,
    controls: dict[str, Any],
    max_memory: int | float | str | None = None,
) -> list[FusionOutput]:
    """Fuse pairs of one kind together: one output per pair, `(1, 3|1, H, W)`, with what was said of its colour."""
    images = [torch.cat(parts).to(model.device) for parts in zip(*(given.images for given in group), strict=True)]
    output = model.fuse(images[0], images[1], task, color=color, max_memory=max_memory, **controls)
    said = output.extras.get("color", [])
    return [
        FusionOutput(fused, extras={"color": list(said[index : index + 1])})
        for index, fused in enumerate(output.fused.split(1))
    ]
