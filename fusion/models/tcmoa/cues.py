"""Classic cues of what is worth keeping, per source and place: what the prompts of a pyramid's sites start from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fusion.layers.box import box, pool

CUES = ("energy", "wide_energy", "detail", "exposure", "distance", "brightness")
"""Names of the cues, in the order of the weights. "energy" is known at every pixel of a band, the others at every token."""
FAINT = 4e-6
"""Energy that is taken for none: half a grey level, squared."""

FINER = 8.0
"""How much more the next finer band counts in "detail": sharpness shows in fine detail, and the bands of a place should agree."""


@dataclass
class BandCues:
    """What a site sees of one band.

    Attributes:
        energy: `(B, 2, h, w)` log energy of the band in 3x3 pixels, for both sources.
        tokens: `(B, 2, 5, h', w')` the other cues, on tokens of 2x2 pixels of the band (of 1 pixel at the base).
        match: `(B, 1, h', w')` how much the two bands are alike, in [-1, 1].
        detail: `(B, 2, h', w')` energy of this band and, weighing more, of all finer ones; the next coarser band goes on from it.
    """

    energy: Tensor
    tokens: Tensor
    match: Tensor
    detail: Tensor

    @property
    def features(self) -> Tensor:
        """`(B, 11, h', w')`, all of them in ranges of about -2 to 2."""
        logs, rest = self.tokens[:, :, :2], self.tokens[:, :, 2:]
        scaled = torch.cat([(logs + 8) / 3, rest], dim=2).flatten(1, 2)
        return torch.cat([scaled, self.match], dim=1)


def band_cues(bands: Tensor, pictures: Tensor, means: Tensor, finer: Tensor | None, base: bool) -> BandCues:
    """Measure one band of both sources; of more than two, `match` is that of the first two.

    Args:
        bands: `(B, 2, h, w)` details of this level; at the base the pictures less their means.
        pictures: `(B, 2, h, w)` low-pass pictures of this level, in [0, 1].
        means: `(B, 2, 1, 1)` mean of each whole source.
        finer: `detail` of the next finer level's cues, None at the finest.
        base: tokens are single pixels.
    """
    side = 1 if base else 2
    squares = bands.square()
    local, seen = pool(squares, side), pool(pictures, side)
    if finer is not None and finer.shape[-2:] != local.shape[-2:]:
        finer = pool(finer, 2)
    detail = local if finer is None else local + FINER * finer
    cues = [
        log_energy(box(local, 5)),
        log_energy(box(detail, 5)),
        -((seen - 0.5) / 0.25).square(),  # well-exposedness (Mertens et al. 2009), as a logarithm
        ((seen - means).abs() + 0.02).log() / 2,
        2 * (seen - 0.5),
    ]
    return BandCues(log_energy(box(squares, 3)), torch.stack(cues, dim=2), likeness(bands, local, side), detail)


def likeness(bands: Tensor, local: Tensor, side: int) -> Tensor:
    """How much two bands `(B, 2, h, w)` are alike, `(B, 1, h', w')` in [-1, 1].

    Args:
        bands: of two sources.
        local: `(B, 2, h', w')` their mean squares per token.
        side: of a token.
    """
    both = box(pool(bands[:, :1] * bands[:, 1:2], side), 3) / FAINT
    alone = box(local, 3) / FAINT
    return both / (alone[:, :1] * alone[:, 1:2] + 1).sqrt()  # + FAINT**2 would be dropped as 0 in exported graphs


def log_energy(energy: Tensor) -> Tensor:
    """Natural logarithm of a mean square, finite where there is none."""
    return (energy + FAINT).log()
