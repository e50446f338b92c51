"""Entropies as training terms: histograms whose counts move with the grey values, so that gradients pass."""

import math

import torch
from torch import Tensor

BINS = 32


def soft_levels(images: Tensor, bins: int = BINS) -> Tensor:
    """Shares of the two nearest levels for every pixel: linear interpolation between bins.

    Args:
        images: `(B, H, W)` in [0, 1].
        bins: levels, evenly spaced from 0 to 1.

    Returns:
        `(B, H * W, bins)`, adding up to one in the last dimension.
    """
    position = images.flatten(1).clamp(0, 1) * (bins - 1)
    levels = torch.arange(bins, device=images.device, dtype=images.dtype)
    return (1 - (position.unsqueeze(-1) - levels).abs()).clamp_min(0)


def bits(frequencies: Tensor) -> Tensor:
    """Shannon entropy in bits of `(B, ...)` frequencies; `(B,)`."""
    p = frequencies.flatten(1)
    return -(p * (p + 1e-10).log()).sum(1) / math.log(2)


def soft_entropy(fused: Tensor) -> Tensor:
    """Entropy in bits of `(B, H, W)` in [0, 1]; `(B,)`. Below the true one of 256 levels, by a nearly constant amount."""
    return bits(soft_levels(fused).mean(1))


def soft_mutual_information(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Mutual information of the fused picture with a plus that with b (Qu et al. 2002), in bits.

    Args:
        fused, a, b: `(B, H, W)` in [0, 1].

    Returns:
        `(B,)`; that of the fused picture with itself is its entropy less the blur of the bins.
    """
    levels = soft_levels(fused)
    h_fused, total = bits(levels.mean(1)), torch.zeros((), device=fused.device)
    for source in (a, b):
        of_source = soft_levels(source)
        joint = of_source.transpose(1, 2) @ levels / levels.shape[1]
        total = total + bits(of_source.mean(1)) + h_fused - bits(joint)
    return total


def soft_cross_entropy(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Mean over the sources of the divergence of the fused picture's levels from theirs, in bits (VIFB's cross entropy).

    Args:
        fused, a, b: `(B, H, W)` in [0, 1].

    Returns:
        `(B,)`, 0 for equal histograms, lower is better.
    """
    frequencies = soft_levels(fused).mean(1) + 1e-4
    total = torch.zeros((), device=fused.device)
    for source in (a, b):
        p = soft_levels(source).mean(1)
        total = total + (p * ((p + 1e-10) / frequencies).log()).sum(1) / math.log(2)
    return total / 2
