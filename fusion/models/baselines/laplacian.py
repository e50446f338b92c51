"""The Laplacian pyramid of the sources (Burt and Adelson, 1983), the classic rule of larger detail."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from kornia.filters import filter2d
from torch import Tensor

from fusion.errors import ConfigError
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput
from fusion.models.tiled import Reach

_TAPS = (1.0, 4.0, 6.0, 4.0, 1.0)


class LaplacianPyramid(FusionModel):
    """Per level the detail of larger size, of the coarsest level the mean, each channel by itself.

    Args:
        levels: of the pyramid, at most as many as the image has room for.
        base: see `FusionModel`.

    Raises:
        ConfigError: fewer than one level.
    """

    fuses_all = True
    bytes_per_pixel = 160

    def __init__(self, levels: int = 4, **base: Any) -> None:
        super().__init__(**base)
        if levels < 1:
            raise ConfigError(f"model.levels={levels}: expected at least 1")
        self.levels = levels
        # Tiles agree with the whole where its sides are multiples of 2^levels; else a level is resized by a factor that is not
        # quite two, by a quarter of a pixel of the next level at most.
        self.reach = Reach(4 * 2**levels, 2**levels)

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", **controls: Any) -> FusionOutput:
        """Fuse `(B, 3, H, W)` in [0, 1]; `fused` is clipped."""
        return self.fuse_all([a, b], task)

    def fuse_all(self, images: Sequence[Tensor], task: str = "vif", **controls: Any) -> FusionOutput:
        """The same of any number of sources: the largest detail of all, the mean of the coarsest levels."""
        details = []
        for _ in range(self.levels):
            if min(images[0].shape[-2:]) < 8:
                break
            smaller = [_reduce(image) for image in images]
            found = [image - _expand(small, image) for image, small in zip(images, smaller, strict=True)]
            details.append(reduce(_larger, found))
            images = smaller
        fused = reduce(torch.add, images) / len(images)
        for detail in reversed(details):
            fused = _expand(fused, detail) + detail
        return FusionOutput(fused.clamp(0, 1))

    def _fuse_tiles(self, a: Tensor, b: Tensor, task: str, pixels: int, **controls: Any) -> FusionOutput:
        if a.shape[-2] * a.shape[-1] > 3 * pixels:
            return super()._fuse_tiles(a, b, task, pixels, **controls)
        made = [self(a[:, i : i + 1], b[:, i : i + 1], task).fused for i in range(a.shape[1])]  # each channel by itself
        return FusionOutput(torch.cat(made, dim=1))


def _larger(first: Tensor, second: Tensor) -> Tensor:
    return torch.where(first.abs() >= second.abs(), first, second)


def _smooth(image: Tensor) -> Tensor:
    taps = image.new_tensor(_TAPS) / sum(_TAPS)
    return filter2d(image, (taps[:, None] * taps)[None], border_type="reflect")


def _reduce(image: Tensor) -> Tensor:
    return _smooth(image)[..., ::2, ::2]


def _expand(image: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(image, like.shape[-2:], mode="bilinear", align_corners=False)
