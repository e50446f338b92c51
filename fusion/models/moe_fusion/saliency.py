"""Saliency without learning."""

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from fusion.layers.borders import is_symbolic


def frequency_tuned_saliency(luma: Tensor, sigma: float = 0.01, full: float | None = None) -> Tensor:
    """Distance of the blurred image from its mean (Achanta et al., CVPR 2009, on luma).

    Args:
        luma: `(B, 1, H, W)` in [0, 1].
        sigma: deviation of the Gaussian blur as a share of the shorter side.
        full: distance that counts as 1, larger ones too; None stretches every image to [0, 1], also one of noise.

    Returns:
        `(B, 1, H, W)` in [0, 1]; 0 everywhere where an image has one value only.
    """
    if any(map(is_symbolic, luma.shape[-2:])):
        return _scaled(_blurred(luma, sigma), luma, full)
    side = min(luma.shape[-2:])
    deviation = max(sigma * side, 0.5)
    size = min(2 * int(2 * deviation + 0.5) + 1, 2 * ((side - 1) // 2) + 1)  # odd, and no wider than reflection allows
    smooth = gaussian_blur2d(luma, (size, size), (deviation, deviation)) if size > 1 else luma
    return _scaled(smooth, luma, full)


def _scaled(smooth: Tensor, luma: Tensor, full: float | None) -> Tensor:
    distance = (smooth - luma.mean((2, 3), keepdim=True)).abs()
    if full is not None:
        return (distance / full).clamp_max(1)
    low, high = distance.amin((2, 3), keepdim=True), distance.amax((2, 3), keepdim=True)
    return torch.where(high - low > 1e-6, (distance - low) / (high - low).clamp_min(1e-6), 0.0)


def _blurred(luma: Tensor, sigma: float) -> Tensor:
    """The same blur where the size, and so the filter's, is a symbol of a graph: products with matrices that hold the filter."""
    rows, columns = (torch.arange(side, device=luma.device) for side in luma.shape[-2:])
    side = torch.minimum(rows[-1], columns[-1]) + 1
    deviation = (sigma * side).clamp_min(0.5)
    radius = torch.minimum((2 * deviation + 0.5).floor(), (side - 1) // 2)

    def taps(distance: Tensor) -> Tensor:
        return torch.where(distance.abs() <= radius, (-(distance**2) / (2 * deviation**2)).exp(), 0.0)

    for axis, place in ((-2, rows), (-1, columns)):
        place, last = place.to(luma), place[-1]
        out, into = place[:, None], place[None]
        inside, first = (
            taps(out - into),
            taps(out + into) * (into > 0),
        )  # a pixel, and its mirror image before the first
        matrix = inside + first + taps(2 * last - into - out) * (into < last)
        matrix = matrix / matrix.sum(1, keepdim=True)
        luma = matrix @ luma if axis == -2 else luma @ matrix.T
    return luma
