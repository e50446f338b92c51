"""Bands of a multispectral picture after their fusion with a panchromatic one (spec of the official remote step)."""

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

LEVELS = 256


def restore_radiometry(fused: Tensor, bands: Tensor) -> Tensor:
    """Give every fused band the histogram of its band back, and keep what the fusion added in detail.

    The base of the fused band, a 3x3 Gaussian with sigma 0.5 and replicated border, takes the band's histogram; the
    detail is added again.

    Args:
        fused: `(B, C, H, W)` in [0, 1].
        bands: `(B, C, H, W)` in [0, 1], before the fusion.

    Returns:
        `(B, C, H, W)` in [0, 1].
    """
    base = gaussian_blur2d(fused, (3, 3), (0.5, 0.5), border_type="replicate")
    return (match_histograms(base, bands) + fused - base).clamp(0, 1)


def match_histograms(images: Tensor, targets: Tensor) -> Tensor:
    """Monotone change of gray levels, channel by channel, after which images are distributed as targets are.

    Both are seen in 256 levels; the change between two levels is linear, so that no shades are lost.

    Args:
        images, targets: `(B, C, H, W)` in [0, 1].

    Returns:
        `(B, C, H, W)` in [0, 1].
    """
    flat, wanted = images.flatten(0, 1).flatten(1), targets.flatten(0, 1).flatten(1)
    share_of, share_wanted = _shares(flat), _shares(wanted)
    # The level whose share of darker pixels comes closest: as in histogram specification by inverse distribution.
    table = torch.searchsorted(share_wanted, share_of - 0.5 / flat.shape[1]).clamp_(max=LEVELS - 1).to(flat)
    place = (flat * (LEVELS - 1)).clamp(0, LEVELS - 1)
    low = place.floor().clamp(max=LEVELS - 2)
    below = table.gather(1, low.long())
    above = table.gather(1, low.long() + 1)
    return (torch.lerp(below, above, place - low) / (LEVELS - 1)).view_as(images)


def _shares(values: Tensor) -> Tensor:
    """Share of the pixels up to each level, `(N, 256)`."""
    levels = (values * (LEVELS - 1)).round().clamp(0, LEVELS - 1).long()
    counts = torch.zeros(len(values), LEVELS, dtype=torch.float64, device=values.device)
    return counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=torch.float64)).cumsum(1) / values.shape[1]
