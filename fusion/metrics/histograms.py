"""Gray-level histograms of planes, single and joint, and their entropies."""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from fusion.metrics.triple import Triple

BINS = 256


def histogram(levels: Tensor) -> Tensor:
    """Relative frequencies `(N, 256)` float64 of uint8 gray levels `(N, H, W)`."""
    return _frequencies(levels.flatten(1), BINS)


def joint_histogram(x: Tensor, y: Tensor) -> Tensor:
    """Relative frequencies `(N, 256, 256)` float64 of pairs of uint8 gray levels; rows are `x`."""
    return _frequencies((x.int() * BINS + y).flatten(1), BINS**2).unflatten(1, (BINS, BINS))


def _frequencies(values: Tensor, bins: int) -> Tensor:
    n, size = values.shape
    if n > 1:  # one count for all, each plane in bins of its own
        values = values + torch.arange(n, device=values.device)[:, None] * bins
    flat = values.flatten()
    if flat.device.type == "cpu":
        count = torch.bincount(flat, minlength=n * bins)
    else:  # there bincount waits for the largest value
        count = torch.zeros(n * bins, dtype=torch.int32, device=flat.device)
        count.scatter_add_(0, flat.long(), torch.ones_like(flat, dtype=torch.int32))
    return count.reshape(n, bins).double() / size


def entropy(p: Tensor, base: float = 2.0) -> Tensor:
    """Shannon entropy of `(N, ...)` frequencies over all but the first axis; 0 log 0 = 0."""
    return torch.special.entr(p).flatten(1).sum(1) / math.log(base)


class Information:
    """Histograms and entropies (bits) of one triple's gray levels, in the order a, b, fused, each counted when asked for.

    Args:
        levels: gives the gray levels of image 0, 1 or 2, `(N, H, W)` uint8.
    """

    def __init__(self, levels: Callable[[int], Tensor]) -> None:
        self._levels = levels

    @functools.cached_property
    def p_fused(self) -> Tensor:
        """Frequencies of the fused image's levels `(N, 256)`."""
        return histogram(self._levels(2))

    @functools.cached_property
    def p(self) -> Tensor:
        """Frequencies of each image's levels `(3, N, 256)`."""
        return torch.stack((histogram(self._levels(0)), histogram(self._levels(1)), self.p_fused))

    @functools.cached_property
    def h(self) -> Tensor:
        """Entropy of each image `(3, N)`."""
        return torch.stack([entropy(p) for p in self.p])

    @functools.cached_property
    def joint_af(self) -> Tensor:
        """Joint frequencies of a and fused `(N, 256, 256)`."""
        return joint_histogram(self._levels(0), self._levels(2))

    @functools.cached_property
    def joint_bf(self) -> Tensor:
        """Joint frequencies of b and fused."""
        return joint_histogram(self._levels(1), self._levels(2))

    @functools.cached_property
    def joint_ab(self) -> Tensor:
        """Joint frequencies of the two sources."""
        return joint_histogram(self._levels(0), self._levels(1))

    @functools.cached_property
    def h_af(self) -> Tensor:
        """Joint entropy of a and fused `(N,)`."""
        return entropy(self.joint_af)

    @functools.cached_property
    def h_bf(self) -> Tensor:
        """Joint entropy of b and fused `(N,)`."""
        return entropy(self.joint_bf)

    @functools.cached_property
    def h_ab(self) -> Tensor:
        """Joint entropy of the two sources `(N,)`."""
        return entropy(self.joint_ab)

    @property
    def mutual(self) -> tuple[Tensor, Tensor]:
        """Mutual information of a and fused, and of b and fused, in bits, each `(N,)`."""
        h_a, h_b, h_f = self.h
        return h_a + h_f - self.h_af, h_b + h_f - self.h_bf


def of_levels(t: Triple) -> Information:
    """Statistics of the 8-bit levels as they are."""
    return t.once("information", lambda: Information(t.levels))


def of_stretched(t: Triple) -> Information:
    """Statistics after the min-max stretch of Liu's toolbox."""
    return t.once("information stretched", lambda: Information(t.stretched.detach().clamp(0, 255).byte().__getitem__))
