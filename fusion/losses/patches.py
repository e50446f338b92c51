"""Patch selection for multi-focus fusion (TC-MoA Eqs. 15-17): every patch of the target comes from the sharper source."""

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from torch import Tensor

GRAY_WEIGHTS = (0.2989, 0.587, 0.114)


def sobel_magnitude(images: Tensor) -> Tensor:
    """|Sobel_x| + |Sobel_y| of the grey image, zero padding; `(B, 3, H, W)` to `(B, 1, H, W)`."""
    gray = rgb_to_grayscale(images, images.new_tensor(GRAY_WEIGHTS))
    x = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    return F.conv2d(gray, torch.stack([x, x.t()]).unsqueeze(1), padding=1).abs().sum(1, keepdim=True)


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
