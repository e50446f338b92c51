"""Intensity terms: L1 to the maximum or the mean of the sources (TC-MoA Eqs. 11, 14)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pixel_l1(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """L1 to the element-wise maximum of the sources, all `(B, C, H, W)` in [0, 1]; scalar."""
    return F.l1_loss(fused, torch.maximum(a, b))


def mean_pixel_l1(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """L1 to the mean of the sources, all `(B, C, H, W)` in [0, 1]; scalar."""
    return F.l1_loss(fused, (a + b) / 2)
