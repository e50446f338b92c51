"""Convolutions whose kernels come with the data."""

import torch.nn.functional as F
from torch import Tensor


def dynamic_conv2d(features: Tensor, kernels: Tensor) -> Tensor:
    """Convolve every sample with a kernel of its own, zero padding, no bias; one grouped convolution for the batch.

    Args:
        features: `(B, C, H, W)`.
        kernels: `(B, O, C, k, k)`, k odd.

    Returns:
        `(B, O, H, W)`.
    """
    batch, out, channels, side = kernels.shape[:4]
    grouped = F.conv2d(
        features.reshape(1, batch * channels, *features.shape[2:]),
        kernels.reshape(batch * out, channels, side, side),
        padding=side // 2,
        groups=batch,
    )
    return grouped.view(batch, out, *features.shape[2:])
