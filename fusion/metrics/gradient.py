"""Metrics of edge preservation, after Xydeas and Petrovic."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fusion.metrics.filters import magnitude, pad, sobel
from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple


def orientation(dx: Tensor, dy: Tensor) -> Tensor:
    """`atan(dy / dx)` in [-pi/2, pi/2]; pi/2 where dx is 0."""
    upright = dx == 0
    return torch.where(upright, math.pi / 2, torch.atan(dy / torch.where(upright, 1, dx)))


def _sigmoid(x: Tensor, gain: float, slope: float, centre: float) -> Tensor:
    return gain * torch.sigmoid(slope * (x - centre))


def _preserved(g_x: Tensor, g_f: Tensor, alpha_x: Tensor, alpha_f: Tensor, tie: Tensor) -> Tensor:
    """Share of a source's edge that the fused image preserves, per pixel; `tie` where strengths agree."""
    low, high = torch.minimum(g_x, g_f), torch.maximum(g_x, g_f)
    strength = torch.where(low == high, tie, low / torch.where(high > 0, high, 1))
    angle = 1 - (alpha_x - alpha_f).abs() / (math.pi / 2)
    return _sigmoid(strength, 0.9994, 15, 0.5) * _sigmoid(angle, 0.9879, 22, 0.8)


def edges(t: Triple) -> tuple[Tensor, Tensor, Tensor]:
    """Sobel derivatives along columns and rows and their magnitude, `(3, N, H, W)` each, zero border."""

    def of_stack() -> tuple[Tensor, Tensor, Tensor]:
        dx, dy = sobel(t.stack, "zero")
        return dx, dy, magnitude(dx, dy)

    return t.once("sobel", of_stack)


def _edge_preservation(dx: Tensor, dy: Tensor, g: Tensor, tie_is_strength: bool) -> Tensor:
    """Q_ABF from Sobel derivatives and magnitudes `(3, N, H, W)`; weights are the sources' edge strengths."""
    alpha = orientation(dx, dy)
    tie = g[2] if tie_is_strength else torch.ones((), dtype=g.dtype, device=g.device)
    q_a = _preserved(g[0], g[2], alpha[0], alpha[2], tie)
    q_b = _preserved(g[1], g[2], alpha[1], alpha[2], tie)
    weight = (g[0] + g[1]).sum((-2, -1))
    kept = (q_a * g[0] + q_b * g[1]).sum((-2, -1))
    return kept / torch.where(weight > 0, weight, 1)


@metric(
    "qabf",
    symbol="Q_ABF",
    title="edge preservation",
    bounds=(0, 0.9874),
    source="Xydeas and Petrovic 2000",
)
def qabf(t: Triple) -> Tensor:
    """Preservation of the sources' Sobel edges in strength and orientation, weighted by strength; higher is better.

    In [0, 0.9874] (the paper's sigmoids stop short of 1). Sobel with zero border, so the image's frame is an edge.
    Equal strengths count as fully preserved; 0 where neither source has an edge (black images).
    """
    return _edge_preservation(*edges(t), tie_is_strength=False)


@variant("qabf", "vifb", "mefb", "tang")
def qabf_toolbox(t: Triple) -> Tensor:
    """As `exact`, but for equal strengths the toolboxes put the strength itself in place of the ratio 1."""
    return _edge_preservation(*edges(t), tie_is_strength=True)


@variant("qabf", "tang_legacy", double=True)
def qabf_legacy(t: Triple) -> Tensor:
    """As published in Tang's tables: images in [0, 1], so that rounding decides which strengths are equal.

    The tie rule makes that visible in the third digit, so the sums run in the toolbox's order (column by column).
    """
    dx, dy = _sobel_by_columns(t.stack / 255)
    return _edge_preservation(dx, dy, magnitude(dx, dy), tie_is_strength=True)


def _sobel_by_columns(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel derivatives whose nine products are added in column-major order of the kernel, zero border."""
    kernel = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
    h, w = planes.shape[-2:]
    padded = pad(planes, (1, 1), (1, 1), "zero")

    def convolve(tap: Callable[[int, int], float]) -> Tensor:
        total = torch.zeros_like(planes)
        for j in range(3):
            for i in range(3):
                total = total + tap(i, j) * padded[..., 2 - i : 2 - i + h, 2 - j : 2 - j + w]
        return total

    return convolve(lambda i, j: kernel[i][j]), convolve(lambda i, j: -kernel[j][i])


def _wrapped_angle(alpha_x: Tensor, alpha_f: Tensor) -> Tensor:
    """Agreement of two orientations in [0, 1], of period pi."""
    return ((alpha_x - alpha_f).abs() - math.pi / 2).abs() * 2 / math.pi


@metric(
    "qg",
    symbol="Q_G",
    title="gradient-based fusion performance",
    bounds=(0, 0.9867),
    source="Xydeas and Petrovic 2000, as in Liu et al. 2012",
    also=("liu",),
)
def qg(t: Triple) -> Tensor:
    """Edge preservation normalised at each pixel rather than over the image; in [0, 0.9867], higher is better.

    Flat areas count as much as edges: where all gradients vanish they are taken as 1e-5 and agree.
    """
    tiny = 1e-5
    dx, dy, g = edges(t)
    g = torch.where(g == 0, tiny, g)
    alpha = torch.atan(dy / torch.where(dx == 0, tiny, dx))

    def preserved(i: int) -> Tensor:
        strength = torch.minimum(g[i], g[2]) / torch.maximum(g[i], g[2])
        return _sigmoid(strength, 1, 10, 0.5) * _sigmoid(_wrapped_angle(alpha[i], alpha[2]), 1, 20, 0.75)

    return ((preserved(0) * g[0] + preserved(1) * g[1]) / (g[0] + g[1])).mean((-2, -1))


def _artefacts(stack: Tensor) -> Tensor:
    """N_ABF of planes ordered a, b, fused, `(3, N, H, W)`."""
    dx, dy = (d / 8 for d in sobel(stack, "reflect"))
    g = magnitude(dx, dy)
    flat = (dx == 0) & (dy == 0)
    alpha = torch.where(flat, 0, orientation(dx, dy))
    low, high = torch.minimum(g[:2], g[2]), torch.maximum(g[:2], g[2])
    strength = _sigmoid(low / torch.where(high > 0, high, 1), 0.9999, 19, 0.5)
    angle = _sigmoid(_wrapped_angle(alpha[:2], alpha[2]), 0.9995, 22, 0.5)
    strong = g[:2] >= 2
    weight = torch.where(strong, torch.where(strong, g[:2], 1) ** 1.5, 0.001)
    added = (g[2] > g[0]) & (g[2] > g[1])
    lost = ((1 - (strength * angle).sqrt()) * weight * added).sum((0, -2, -1))
    return lost / weight.sum((0, -2, -1))


@metric(
    "nabf",
    symbol="N_ABF",
    title="artefacts that the fusion added",
    direction="min",
    bounds=(0, 1),
    source="Petrovic and Xydeas 2005; Shreyamsha Kumar 2013 (modified)",
)
def nabf(t: Triple) -> Tensor:
    """Weight of edges that are stronger in the fused image than in both sources; in [0, 1], lower is better."""
    return _artefacts(t.stack)


@variant("nabf", "tang", "tang_legacy")
def nabf_tang(t: Triple) -> Tensor:
    """Tang: the function takes (fused, a, b) but is called with (a, b, fused), so `a` is scored as the fused image."""
    return _artefacts(torch.stack((t.b, t.fused, t.a)))
