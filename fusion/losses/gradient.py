"""Gradient terms (TC-MoA Eqs. 12, 17): the signed gradient keeps the direction of an edge, its magnitude does not."""

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from torch import Tensor

GRAY_WEIGHTS = (0.2989, 0.587, 0.114)
_KERNEL_X = ((-0.2, 0.0, 0.2), (-1.0, 0.0, 1.0), (-0.2, 0.0, 0.2))
_KERNEL_Y = ((0.2, 1.0, 0.2), (0.0, 0.0, 0.0), (-0.2, -1.0, -0.2))


def color_gradient(images: Tensor, signed: bool = True) -> Tensor:
    """Gradient of an image summed over its channels: K_x * I + K_y * I, or |K_x * I| + |K_y * I| when not signed.

    Args:
        images: `(B, 3, H, W)` in [0, 1].
        signed: False is the ablation of TC-MoA's supplement, Fig. 12.

    Returns:
        `(B, 1, H, W)`; zero padding at the border.
    """
    kernels = images.new_tensor([_KERNEL_X, _KERNEL_Y]).unsqueeze(1).expand(2, images.shape[1], 3, 3)
    gradients = F.conv2d(images, kernels, padding=1)
    return (gradients if signed else gradients.abs()).sum(1, keepdim=True)


def sobel_magnitude(images: Tensor) -> Tensor:
    """|Sobel_x| + |Sobel_y| of the gray image, zero padding; `(B, 3 or 1, H, W)` to `(B, 1, H, W)`."""
    gray = images if images.shape[1] == 1 else rgb_to_grayscale(images, images.new_tensor(GRAY_WEIGHTS))
    x = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    return F.conv2d(gray, torch.stack([x, x.t()]).unsqueeze(1), padding=1).abs().sum(1, keepdim=True)


def strongest(a: Tensor, b: Tensor) -> Tensor:
    """Per element the value of larger magnitude; ties go to `a`."""
    return torch.where(a.abs() >= b.abs(), a, b)


def max_gradient_l1(fused: Tensor, a: Tensor, b: Tensor, signed: bool = True) -> Tensor:
    """L1 between the gradient of the fused image and the stronger of the sources' gradients (L_MaxGrad).

    Args:
        fused, a, b: `(B, 3, H, W)` in [0, 1].
        signed: see `color_gradient`.

    Returns:
        Scalar, the mean over all pixels.
    """
    target = strongest(color_gradient(a, signed), color_gradient(b, signed))
    return F.l1_loss(color_gradient(fused, signed), target)
