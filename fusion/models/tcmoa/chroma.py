"""Chroma of a pyramid's sources: weighed by how saturated it is, by what the luma took, and by whether it can be true (ours)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.layers.box import box, pool
from fusion.models.tcmoa.band import resize

GRAY = 1e-4
"""Saturation that is taken for none."""
SIDE = 8
"""Places are squares of so many pixels."""
NEARLY = 0.9
"""From this value of the brightest channel on its hue is doubted; at 1 the channel is clipped."""


def clipping(picture: Tensor, side: int = SIDE) -> Tensor:
    """How much of every place is clipped, `(B, 1, h', w')` in [0, 1]: there a light source turns yellow and a sky turquoise.

    Args:
        picture: RGB `(B, 3, H, W)` in [0, 1].
        side: of a place, in pixels.
    """
    brightest = picture.amax(1, keepdim=True)
    return box(pool(((brightest - NEARLY) / (1 - NEARLY)).clamp(0, 1), side), 3)


def merge_two(
    sources: Sequence[Tensor], chroma: Sequence[Tensor], prompts: Tensor, weights: Tensor, doubt: Tensor | None
) -> Tensor:
    """Merge the chroma of two sources.

    Args:
        sources: RGB `(B, 3, H, W)` in [0, 1], two of them.
        chroma: `(B, 2, H, W)` of each, about 0.
        prompts: `(B, 2, H, W)` of the finest band.
        weights: 3 numbers: of the log saturation, of the log prompt, and a constant for the first.
        doubt: weight of `clipping` against a source; None is 0.

    Returns:
        `(B, 2, H, W)` about 0.
    """
    a, b = chroma
    saturation, preferred, constant = weights
    side = min(SIDE, *a.shape[-2:])
    colour_a, colour_b = (_saturation(x, side) for x in chroma)
    choice = pool(prompts, side).clamp(0.01, 0.99)
    logit = saturation * (colour_a / colour_b).log() + constant
    logit = logit + preferred * (choice[:, :1] / choice[:, 1:]).log()
    if doubt is not None:
        false_a, false_b = (clipping(x, side) for x in sources)
        logit = logit + doubt * (false_b - false_a)
    return b.lerp(a, resize(logit.sigmoid(), a.shape[-2:]))


def merge_many(
    sources: Sequence[Tensor], chroma: Sequence[Tensor], prompts: Tensor, weights: Tensor, doubt: Tensor | None
) -> Tensor:
    """As `merge_two`, of n sources: a softmax in place of the sigmoid; the constant for the first counts in every pair."""
    saturation, preferred, constant = weights
    count, size = len(chroma), chroma[0].shape[-2:]
    side = min(SIDE, *size)
    colour = torch.cat([_saturation(x, side) for x in chroma], dim=1)
    choice = pool(prompts, side).clamp(0.01, 0.99)
    place = torch.arange(count, device=prompts.device, dtype=prompts.dtype).view(1, -1, 1, 1)
    ahead = (count - 1 - 2 * place) / count  # pairs in which it is `a` less those in which it is `b`
    scores = saturation * colour.log() + preferred * choice.log() + constant * ahead
    if doubt is not None:
        scores = scores - doubt * torch.cat([clipping(x, side) for x in sources], dim=1)
    shares = resize(scores.softmax(1), size)
    return torch.stack([shares[:, i : i + 1] * x for i, x in enumerate(chroma)]).sum(0)


def _saturation(chroma: Tensor, side: int) -> Tensor:
    return box(pool(chroma.abs().sum(1, keepdim=True), side), 3) + GRAY
