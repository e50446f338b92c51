"""The Laplacian pyramid (Burt and Adelson 1983): band-pass details and a small base, from which the picture comes back exactly."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.errors import ConfigError

LEVELS = (2, 8)


class LaplacianPyramid(nn.Module):
    """A backbone that loses nothing: frozen, without parameters, inverted by adding up.

    Sides are halved with the upper half kept (`ceil`), so that every size is accepted.

    Args:
        levels: bands of detail; the base has 1 / 2^levels of the sides.
        weights: always None; backbones name their weights, and this one has none.

    Raises:
        ConfigError: a number of levels outside 2..8.
    """

    taps: Tensor

    def __init__(self, levels: int = 5, weights: str | None = None) -> None:
        super().__init__()
        check_levels(levels)
        if weights is not None:
            raise ConfigError(f"model.backbone.weights={weights}: a pyramid has no weights, leave it null")
        self.levels, self.weights = levels, None
        self.register_buffer("taps", torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16, persistent=False)

    def gaussians(self, images: Tensor) -> list[Tensor]:
        """Pictures of halved sides, the largest first: `levels + 1` of them, from `(B, C, H, W)`."""
        pictures = [images]
        for _ in range(self.levels):
            pictures.append(self.reduce(pictures[-1]))
        return pictures

    def bands(self, gaussians: Sequence[Tensor]) -> list[Tensor]:
        """Details of each level, finest first, and the base; as many as there are pictures."""
        details = [g - expand(coarse, g.shape[-2:]) for g, coarse in pairwise(gaussians)]
        return [*details, gaussians[-1]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Details of each level, finest first, and the base."""
        return self.bands(self.gaussians(images))

    @staticmethod
    def inverse(bands: Sequence[Tensor]) -> Tensor:
        """The picture whose bands these are."""
        picture = bands[-1]
        for detail in reversed(bands[:-1]):
            picture = detail + expand(picture, detail.shape[-2:])
        return picture

    def reduce(self, images: Tensor) -> Tensor:
        """Binomial filter and every second pixel; the border is repeated."""
        batch, channels = images.shape[:2]
        x = images.flatten(0, 1).unsqueeze(1)
        x = F.conv2d(F.pad(x, (2, 2, 0, 0), mode="replicate"), self.taps.to(x).view(1, 1, 1, 5), stride=(1, 2))
        x = F.conv2d(F.pad(x, (0, 0, 2, 2), mode="replicate"), self.taps.to(x).view(1, 1, 5, 1), stride=(2, 1))
        return x.unflatten(0, (batch, channels)).squeeze(2)


def expand(images: Tensor, size: Sequence[int]) -> Tensor:
    """Doubled sides, cut to `size`, by the same filter between the pixels; the border is repeated."""
    return _double(_double(images, -2, size[0]), -1, size[1])


def _double(x: Tensor, axis: int, length: int) -> Tensor:
    n = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)], axis)
    after = torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], axis)
    pair = torch.stack([(before + 6 * x + after) / 8, (x + after) / 2], dim=-1 if axis == -1 else -2)
    return pair.flatten(*((-2, -1) if axis == -1 else (-3, -2))).narrow(axis, 0, length)


def check_levels(levels: int) -> None:
    """Refuse pyramids that cannot be.

    Raises:
        ConfigError: names the key.
    """
    low, high = LEVELS
    if isinstance(levels, bool) or not isinstance(levels, int) or not low <= levels <= high:
        raise ConfigError(f"model.backbone.levels={levels}: expected a whole number from {low} to {high}")
