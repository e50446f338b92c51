"""Patch selection for multi-focus fusion (TC-MoA Eqs. 15-17): every patch of the target comes from the sharper source."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.losses.gradient import sobel_magnitude


def sharper_patches(a: Tensor, b: Tensor, patch: int = 16) -> Tensor:
    """Target image whose patches come from the source with the larger maximal gradient; ties go to `a`.

    Args:
        a, b: `(B, 3, H, W)` in [0, 1]; a border narrower than a patch is a patch of its own.
        patch: side in pixels.

    Returns:
        `(B, 3, H, W)`.
    """
    peak_a, peak_b = (F.max_pool2d(sobel_magnitude(x), patch, ceil_mode=True) for x in (a, b))
    from_a = (peak_a >= peak_b).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return torch.where(from_a[..., : a.shape[2], : a.shape[3]], a, b)
