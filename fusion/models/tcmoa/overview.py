"""What a pair looks like as a whole, and how the settings of a pyramid's sites follow from it (ours)."""

import math
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.layers.box import box

FEATURES = ("one", "contrast_a", "contrast_b", "mean_a", "mean_b", "correlation", "detail_a", "detail_b")
"""What is measured of a pair, in the order of the weights; "one" is always 1."""
FAINT = 1e-3
"""Contrast, in [0, 1], that is taken for none."""
MOST = 2.0
"""A feature further than this from that of a usual pair counts as this."""


class Setting(NamedTuple):
    """Changes of a site's parameters for the pair at hand, `(B, 1, 1, 1)` each, or numbers.

    Attributes:
        hardness, faint: are added to the site's own.
        gain: is added to the gain before its bound.
        common: is added to the share of a common choice, at the base.
        offset: is added to what the base is brightened by, before its bound.
        lift, bend: of the tone curve, see `curve`.
    """

    hardness: Tensor | float = 0.0
    gain: Tensor | float = 0.0
    faint: Tensor | float = 0.0
    common: Tensor | float = 0.0
    offset: Tensor | float = 0.0
    lift: Tensor | float = 0.0
    bend: Tensor | float = 0.0


UNCHANGED = Setting()


def look_at(luma: Tensor) -> Tensor:
    """Measure sources `(B, n, H, W)` in [0, 1]; of more than two, the mean over all pairs.

    Returns:
        `(B, 8)`, see `FEATURES`: of both sources the logarithm of the contrast (standard deviation), the mean, and the logarithm of
        the finest detail (distance from the mean of 3x3 pixels), and the sources' correlation; each as the distance from a usual
        pair of a visible and an infrared picture, in units of how much such pairs differ, within +-2.
    """
    flat = luma.flatten(2)
    means = flat.mean(2, keepdim=True)
    centred = flat - means
    products = centred @ centred.mT / flat.shape[2]
    contrast = products.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt() + FAINT
    detail = torch.cat([(x - box(x, 3)).square().mean((-2, -1)) for x in luma.split(1, dim=1)], dim=1).sqrt() + FAINT
    seen = [
        torch.stack(
            [
                (contrast[:, i] / 0.2).log(),
                (contrast[:, j] / 0.14).log(),
                (means[:, i, 0] - 0.45) / 0.15,
                (means[:, j, 0] - 0.42) / 0.12,
                products[:, i, j] / (contrast[:, i] * contrast[:, j]) / 0.35,
                (detail[:, i] / 0.03).log(),
                (detail[:, j] / 0.015).log(),
            ],
            dim=1,
        ).clamp(-MOST, MOST)
        for i, j in combinations(range(luma.shape[1]), 2)
    ]
    view = torch.stack(seen).mean(0)
    return torch.cat([torch.ones_like(view[:, :1]), view], dim=1)


def curve(picture: Tensor, setting: Setting) -> Tensor:
    """Bend the tones of a low-pass picture `(B, 1, h, w)`; black, white and, but for the lift, the middle stay as they are."""
    if setting is UNCHANGED:
        return picture
    tone = math.pi * picture.clamp(0, 1)
    return picture + setting.lift * tone.sin() + setting.bend * (2 * tone).sin()
