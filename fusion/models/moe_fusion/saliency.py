"""Saliency without learning."""

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor


def frequency_tuned_saliency(luma: Tensor, sigma: float = 0.01, full: float | None = None) -> Tensor:
    """Distance of the blurred image from its mean (Achanta et al., CVPR 2009, on luma).

    Args:
        luma: `(B, 1, H, W)` in [0, 1].
        sigma: deviation of the Gaussian blur as a share of the shorter side.
        full: distance that counts as 1, larger ones too; None stretches every image to [0, 1], also one of noise.

    Returns:
        `(B, 1, H, W)` in [0, 1]; 0 everywhere where an image has one value only.
    """
    side = min(luma.shape[-2:])
    deviation = max(sigma * side, 0.5)
    size = min(2 * int(2 * deviation + 0.5) + 1, 2 * ((side - 1) // 2) + 1)  # odd, and no wider than reflection allows
    smooth = gaussian_blur2d(luma, (size, size), (deviation, deviation)) if size > 1 else luma
    distance = (smooth - luma.mean((2, 3), keepdim=True)).abs()
    if full is not None:
        return (distance / full).clamp_max(1)
    low, high = distance.amin((2, 3), keepdim=True), distance.amax((2, 3), keepdim=True)
    return torch.where(high - low > 1e-6, (distance - low) / (high - low).clamp_min(1e-6), 0.0)
