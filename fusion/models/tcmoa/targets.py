"""Hot targets of one source: small places that stand out there and are brighter than the other sources show (ours)."""

import torch
from torch import Tensor

from fusion.layers.box import box, pool
from fusion.models.tcmoa.band import resize
from fusion.models.tcmoa.overview import FAINT

LEVELS = (1, 2)
"""Levels on which targets are lifted, of 2x2 and 4x4 pixels."""
AROUND = 3
"""Side of the surroundings in pixels of the base, which is odd."""
UNUSUAL, UNUSUAL_STEP = 1.6, 0.25
"""Distance from the surroundings that counts half, in standard deviations of the source, and how gradually."""
ABOVE, ABOVE_STEP = 0.1, 0.015
"""The same in brightness: what little noise there is in an even picture is no target."""
BEYOND, BEYOND_STEP = 0.1, 0.02
"""How much brighter than the other sources, there and around, a place has to be: a target must not vanish in a bright ground."""
RARE = 0.015
"""Share of a picture that targets may take; where more stands out they are lifted the less, for it is a crowd or no target."""


def lifted(fused: Tensor, pictures: Tensor, base: Tensor, deviations: Tensor, share: Tensor) -> Tensor:
    """A low-pass picture whose targets are nearer to their brightness in the source where they stand out; none is darkened.

    Args:
        fused: `(B, 1, h, w)`, about in [0, 1].
        pictures: `(B, n, h, w)` low-pass sources of the same level.
        base: `(B, n, h', w')` the coarsest ones.
        deviations: `(B, n, 1, 1)` standard deviations of the whole sources.
        share: of the way, 0 to 1: a number, or `(B, n, 1, 1)`.
    """
    weights = share * standing_out(pictures, base, deviations)
    return fused + (weights * (pictures - fused).clamp_min(0)).amax(1, keepdim=True)


def standing_out(pictures: Tensor, base: Tensor, deviations: Tensor) -> Tensor:
    """How much every place of a source is a target, `(B, n, h, w)` in [0, 1]; arguments as in `lifted`."""
    around = resize(box(base, AROUND), pictures.shape[-2:])
    above = pictures - around
    unusual = ((above / (deviations + FAINT) - UNUSUAL) / UNUSUAL_STEP).sigmoid()
    grounds = torch.maximum(pictures, around)
    count = pictures.shape[1]
    others = [grounds[:, [j for j in range(count) if j != i]].amax(1) for i in range(count)]
    beyond = ((pictures - torch.stack(others, dim=1) - BEYOND) / BEYOND_STEP).sigmoid()
    return unusual * ((above - ABOVE) / ABOVE_STEP).sigmoid() * beyond


def rarity(luma: Tensor, deviations: Tensor) -> Tensor:
    """How much of the way targets of a picture are lifted, for all that stands out in it: `(B, n, 1, 1)`, above 0, at most 1.

    Args:
        luma: `(B, n, H, W)` whole sources in [0, 1].
        deviations: `(B, n, 1, 1)` their standard deviations.
    """
    # as on the coarser of `LEVELS`, with the base of five levels
    area = standing_out(pool(luma, 4), pool(luma, 32), deviations).mean((-2, -1), keepdim=True)
    return RARE / area.clamp_min(RARE)
