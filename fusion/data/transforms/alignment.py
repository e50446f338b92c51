"""Whether two pictures of one scene lie on top of each other, whatever their cameras: a score and a displacement.

Edges are compared by their orientation, weighed by how well they can be seen, and not by their sign: what is bright in one
modality may be dark in the other (doubled angles, as in the orientation correlation of Fitch et al., BMVC 2002).
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 256
"""Longer side, in pixels, at which pictures are compared."""
SIGNIFICANT = 6.0
"""Height of the correlation's peak over its spread from which a displacement is believed; noise alone stays below 5."""


class Alignment(NamedTuple):
    """How two pictures lie.

    Attributes:
        score: correlation of edges at the pixels as they are, relative to that at the best displacement: 1 aligned, about 0
            not aligned. NaN where the pictures have too little in common to tell.
        dx, dy: displacement of `b` that fits best, in pixels of the picture: what lies at (x, y) in a is found in b at
            (x + dx, y + dy).
        peak: how far that displacement stands out; below 6 it is chance.
    """

    score: float
    dx: float
    dy: float
    peak: float

    @property
    def known(self) -> bool:
        """Whether the pictures have enough in common to tell."""
        return self.peak >= SIGNIFICANT

    def is_off(self, size: tuple[int, int]) -> bool:
        """Whether the pair is misaligned: a displacement beyond 1 % of the longer side that stands out and fits better."""
        limit = max(2.0, 0.01 * max(size))
        return self.known and self.score < 0.8 and max(abs(self.dx), abs(self.dy)) > limit


def alignment(a: Tensor | np.ndarray, b: Tensor | np.ndarray, reach: float = 0.2) -> Alignment:
    """Compare two pictures of one size.

    Args:
        a, b: `(C, H, W)`, any type and range; channels are averaged.
        reach: largest displacement looked for, as a share of a side.
    """
    full = a.shape[-2:]
    if min(full) < 8:
        return Alignment(float("nan"), 0.0, 0.0, 0.0)
    first, second = (_prepared(x) for x in (a, b))
    height, width = first.shape
    zoom = max(full) / max(height, width)
    e1, e2 = edge_orientation(first), edge_orientation(second)
    spectrum = torch.fft.fft2(e1, s=(2 * height, 2 * width)).conj() * torch.fft.fft2(e2, s=(2 * height, 2 * width))
    correlation = torch.fft.ifft2(spectrum).real  # [dy, dx]: b moved by (dy, dx) against a
    norm = float((e1.abs() ** 2).sum().sqrt() * (e2.abs() ** 2).sum().sqrt())
    if norm == 0:
        return Alignment(float("nan"), 0.0, 0.0, 0.0)
    correlation = correlation / norm
    rows, columns = max(2, int(reach * height)), max(2, int(reach * width))
    window = torch.roll(correlation, (rows, columns), (0, 1))[: 2 * rows + 1, : 2 * columns + 1]
    best = int(window.argmax())
    dy, dx = best // window.shape[1] - rows, best % window.shape[1] - columns
    peak, center = float(window.max()), float(window[rows, columns])
    # Edges are broad: within a pixel of the centre is aligned.
    center = max(center, float(window[rows - 1 : rows + 2, columns - 1 : columns + 2].max()))
    spread = float(window.std().clamp_min(1e-9))
    height_of_peak = (peak - float(window.median())) / spread
    score = max(0.0, center / peak) if peak > 0 else float("nan")
    return Alignment(score, dx * zoom, dy * zoom, height_of_peak)


def _prepared(image: Tensor | np.ndarray) -> Tensor:
    """`(H, W)` float32, at most `SIDE` pixels long, its mean and spread taken out."""
    tensor = image.float() if isinstance(image, Tensor) else torch.from_numpy(np.array(image, np.float32))
    gray = tensor.mean(0)[None, None]
    gray = torch.nan_to_num(gray)
    scale = SIDE / max(gray.shape[-2:])
    if scale < 1:
        size = [max(8, round(side * scale)) for side in gray.shape[-2:]]
        gray = F.interpolate(gray, size, mode="bilinear", antialias=True, align_corners=False)
    gray = gray[0, 0]
    return (gray - gray.mean()) / gray.std().clamp_min(1e-6)


def edge_orientation(gray: Tensor) -> Tensor:
    """Complex `(H, W)`: twice the angle of the gradient, weighed by its strength, which saturates at the median edge."""
    smooth = F.avg_pool2d(F.pad(gray[None, None], (1, 1, 1, 1), mode="replicate"), 3, 1)
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")[0, 0]
    gx = padded[1:-1, 2:] - padded[1:-1, :-2]
    gy = padded[2:, 1:-1] - padded[:-2, 1:-1]
    squared = gx * gx + gy * gy
    strength = squared.sqrt()
    typical = float(torch.quantile(strength.flatten()[:: max(1, strength.numel() // 100_000)], 0.8))
    if typical <= 1e-6:
        typical = float(strength.max())
    weight = strength / (strength + max(typical, 1e-9))
    doubled = torch.complex(gx * gx - gy * gy, 2 * gx * gy) / squared.clamp_min(1e-12)
    edges = doubled * weight
    return edges - edges.mean()
