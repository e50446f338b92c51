"""Color rules of methods that fuse luma and bring chroma back."""

import torch
from kornia.color import rgb_to_ycbcr, ycbcr_to_rgb
from torch import Tensor


def split_luma(images: Tensor) -> tuple[Tensor, Tensor]:
    """RGB `(B, 3, H, W)` in [0, 1] to luma `(B, 1, H, W)` and chroma `(B, 2, H, W)`, full-range BT.601 with 0.5 as neutral."""
    ycbcr = rgb_to_ycbcr(images)
    return ycbcr[:, :1], ycbcr[:, 1:]


def join_luma(luma: Tensor, chroma: Tensor) -> Tensor:
    """Inverse of `split_luma`, clipped to [0, 1]."""
    return ycbcr_to_rgb(torch.cat([luma, chroma], dim=1)).clamp(0, 1)


def merge_chroma(a: Tensor, b: Tensor) -> Tensor:
    """Chroma of two color images, each weighed by its distance from neutral (Liu et al. 2017; TC-MoA's YUV variant).

    Args:
        a, b: `(B, 2, H, W)` in [0, 1].

    Returns:
        `(B, 2, H, W)`; 0.5 where both are neutral.
    """
    weight_a, weight_b = (a - 0.5).abs(), (b - 0.5).abs()
    total = weight_a + weight_b
    merged = (a * weight_a + b * weight_b) / total.clamp_min(1e-12)
    return torch.where(total > 0, merged, 0.5)
