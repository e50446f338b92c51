"""What the tone of a fused picture must not do, whatever metrics reward: flip from place to place, darken, lose hot targets."""

import torch
import torch.nn.functional as F
from torch import Tensor


def roughness(prompts: Tensor) -> Tensor:
    """Mean squared difference of neighbouring prompts `(B, 2, h, w)`; scalar."""
    total = torch.zeros((), device=prompts.device)
    for axis in (-2, -1):
        if prompts.shape[axis] > 1:
            total = total + prompts[:, 0].diff(dim=axis).square().mean()
    return total


def salient_mean(sources: Tensor, spread: float = 0.1) -> Tensor:
    """Mean of the sources, each weighed by its distance from its own mean: what is unusual in a picture keeps its tone.

    Args:
        sources: `(B, 2, h, w)` low-pass pictures in [0, 1].
        spread: distance that counts beside; larger is nearer to the plain mean.

    Returns:
        `(B, 1, h, w)`.
    """
    weights = (sources - sources.mean((-2, -1), keepdim=True)).abs() + spread
    return (weights * sources).sum(1, keepdim=True) / weights.sum(1, keepdim=True)


def tone_distance(fused: Tensor, sources: Tensor, spread: float = 0.1) -> Tensor:
    """Mean squared distance of a fused base `(B, 1, h, w)` from `salient_mean` of the sources `(B, 2, h, w)`; scalar."""
    return F.mse_loss(fused, salient_mean(sources, spread))


def out_of_range(fused: Tensor, sources: Tensor) -> Tensor:
    """Mean squared distance of a fused base from the range that the sources span there; scalar.

    A place that is bright in both sources must not be dark, and none may be brighter or darker than both by much.

    Args:
        fused: `(B, 1, h, w)`.
        sources: `(B, 2, h, w)`.
    """
    low, high = sources.amin(1, keepdim=True), sources.amax(1, keepdim=True)
    return ((low - fused).clamp_min(0).square() + (fused - high).clamp_min(0).square()).mean()


def dull_targets(fused: Tensor, infrared: Tensor, share: float = 0.9, deviations: float = 1.5) -> Tensor:
    """How much darker than the infrared picture its hot places are in the fused one; scalar.

    Args:
        fused, infrared: `(B, 1, h, w)` in [0, 1].
        share: of the infrared's brightness that is asked for.
        deviations: a place is hot where it is so many standard deviations above the mean.
    """
    level = infrared.mean((-2, -1), keepdim=True) + deviations * infrared.std((-2, -1), keepdim=True)
    hot = ((infrared - level) / 0.05).sigmoid()
    return (hot * (share * infrared - fused).clamp_min(0)).mean()


def inverted_tone(
    fused: Tensor,
    sources: Tensor,
    sides: tuple[int, ...] = (8, 16, 32),
    reach: tuple[int, ...] = (1, 2, 4, 8),
    tolerance: float = 0.02,
) -> Tensor:
    """How much a fused picture reverses what both sources agree on; scalar.

    Where no source calls the first of two places darker and one calls it brighter, the fused picture must not make it darker: no
    dark cloud on a wall that is saturated in one exposure and black in the other, no meadow that is light here and dark there.

    Args:
        fused: `(B, 1, H, W)` luma in [0, 1].
        sources: `(B, 2, H, W)`.
        sides: places are squares of so many pixels, each size counting alike: a cloud with soft borders changes little from one
            small square to the next, and shows between large ones.
        reach: distances of the two places, in squares, along rows and columns.
        tolerance: differences that count as none.
    """
    tones = torch.cat([sources, fused], dim=1)
    return torch.stack([_inverted(_squares(tones, side), reach, tolerance) for side in sides]).mean()


def _squares(x: Tensor, side: int) -> Tensor:
    """Means of squares; the last ones are cut, and a picture that is smaller is one."""
    return F.avg_pool2d(x, min(side, *x.shape[-2:]), ceil_mode=True, count_include_pad=False)


def _inverted(tones: Tensor, reach: tuple[int, ...], tolerance: float) -> Tensor:
    """`inverted_tone` of means of places `(B, 3, h, w)`: the sources and the fused picture."""
    total, count = torch.zeros((), device=tones.device), 0
    for axis in (-2, -1):
        for step in reach:
            if (length := tones.shape[axis] - step) < 1:
                continue
            change = tones.narrow(axis, step, length) - tones.narrow(axis, 0, length)
            of_sources, of_fused = change[:, :2], change[:, 2:]
            for sign in (1, -1):
                rises = sign * of_sources
                agreed = (rises.amin(1, keepdim=True) >= -tolerance) & (rises.amax(1, keepdim=True) > tolerance)
                total = total + (agreed * (-sign * of_fused - tolerance).clamp_min(0).square()).mean()
            count += 1
    return total / max(count, 1)
