"""Metrics that weigh local SSIM by which source matters there: Piella and Heijmans, Cvejic, Yang."""

import torch
from torch import Tensor

from fusion.metrics.filters import magnitude, separable, smooth
from fusion.metrics.registry import metric, variant
from fusion.metrics.structure import (
    WANG,
    Moments,
    contrast_structure,
    level_moments,
    luminance,
    moments,
    ssim_maps,
)
from fusion.metrics.triple import Triple

LIU = (2e-16 / 255**2, 2e-16 / 255**2)
"""SSIM's constants in Cvejic's and Yang's metrics of Liu's toolbox: 2e-16 on 0..255, in effect none."""


def settle(moment: Tensor) -> Tensor:
    """Sets local variances or covariances that are rounding noise of 0..255 images to 0.

    In float64 an 8-bit window that is not flat has a variance a million times larger than this limit.
    """
    limit = 1000 * torch.finfo(moment.dtype).eps * 127.5**2
    return torch.where(moment.abs() > limit, moment, 0)


def share(x: Tensor, y: Tensor) -> Tensor:
    """`x / (x + y)` of non-negative maps; one half where both are 0."""
    total = x + y
    return torch.where(total > 0, x / torch.where(total > 0, total, 1), 0.5)


def prewitt(stack: Tensor) -> Tensor:
    """Prewitt magnitude, zero border."""
    ones, difference = (1.0, 1.0, 1.0), (1.0, 0.0, -1.0)
    return magnitude(separable(stack, ones, difference, "zero"), separable(stack, difference, ones, "zero"))


def _of_images(t: Triple) -> tuple[Tensor, Tensor]:
    return t.once("local quality", lambda: _local_quality(level_moments(t, t.stack, 0)))


def _of_edges(t: Triple) -> tuple[Tensor, Tensor]:
    return t.once("local quality of edges", lambda: _local_quality(moments(prewitt(t.stack))))


def _local_quality(m: Moments) -> tuple[Tensor, Tensor]:
    """Piella's local quality, and the saliency of the window, `(N, h, w)` each."""
    s_a, s_b = ssim_maps(m, 255)
    var_a, var_b = settle(m.var[0]), settle(m.var[1])
    part = share(var_a, var_b)
    return part * s_a + (1 - part) * s_b, torch.maximum(var_a, var_b)


def _weighted_quality(quality: Tensor, saliency: Tensor) -> Tensor:
    """Piella's Q_W of local quality and saliency; the plain mean where no window has any saliency."""
    total = saliency.sum((-2, -1))
    weighted = (quality * saliency).sum((-2, -1)) / torch.where(total > 0, total, 1)
    return torch.where(total > 0, weighted, quality.mean((-2, -1)))


@metric(
    "qs",
    symbol="Q_S",
    title="Piella's fusion quality index",
    bounds=(-1, 1),
    source="Piella and Heijmans 2003, Eq. 4, with SSIM as the local index",
    also=("liu",),
    double=True,
)
def qs(t: Triple) -> Tensor:
    """Mean of `l SSIM(A,F) + (1-l) SSIM(B,F)`, l A's share of the local variances; in [-1, 1], higher is better."""
    return _of_images(t)[0].mean((-2, -1))


@metric(
    "qw",
    symbol="Q_W",
    title="Piella's weighted fusion quality index",
    bounds=(-1, 1),
    source="Piella and Heijmans 2003, Eq. 5",
    also=("liu",),
    double=True,
)
def qw(t: Triple) -> Tensor:
    """Q_S with windows weighted by the larger of the sources' variances; in [-1, 1], higher is better."""
    return _weighted_quality(*_of_images(t))


@variant("qw", "mefb")
def qw_mefb(t: Triple) -> Tensor:
    """MEFB: Q_W of Prewitt edge maps instead of the images."""
    return _weighted_quality(*_of_edges(t))


@metric(
    "qe",
    symbol="Q_E",
    title="Piella's edge-dependent fusion quality index",
    bounds=(-1, 1),
    source="Piella and Heijmans 2003, Eq. 6, alpha = 1",
    double=True,
)
def qe(t: Triple) -> Tensor:
    """Q_W of the images times Q_W of their Prewitt edge maps; in [-1, 1], higher is better (Liu's own code crashes)."""
    return _weighted_quality(*_of_images(t)) * _weighted_quality(*_of_edges(t))


def _moments7(t: Triple) -> Moments:
    """Moments in 7 x 7 windows, without rounding noise."""

    def of_stack() -> Moments:
        m = moments(t.stack, 7)
        return Moments(m.mean, settle(m.var), settle(m.cov_af), settle(m.cov_bf))

    return t.once("moments 7", of_stack)


def _mean_of_defined(quality: Tensor, defined: Tensor) -> Tensor:
    """Mean over the windows where `defined`; 0 where there is none."""
    return (quality * defined).sum((-2, -1)) / defined.sum((-2, -1)).clamp_min(1)


@metric(
    "qc",
    symbol="Q_C",
    title="Cvejic's similarity-based quality",
    bounds=(-1, 1),
    source="Cvejic et al. 2005, Eq. 5",
    double=True,
)
def qc(t: Triple) -> Tensor:
    """Mean of `l SSIM(A,F) + (1-l) SSIM(B,F)`, 7 x 7 windows, l the share of cov(A,F) in the covariances.

    The share is clipped to [0, 1] as in the paper, one half where the covariances cancel, and SSIM keeps its usual
    constants, so flat areas are stable; in [-1, 1], higher is better.
    """
    m = _moments7(t)
    s_a, s_b = ssim_maps(m, 255)
    total = m.cov_af + m.cov_bf
    part = torch.where(total != 0, m.cov_af / torch.where(total != 0, total, 1), 0.5).clamp(0, 1)
    return (part * s_a + (1 - part) * s_b).mean((-2, -1))


@variant("qc", "mefb", "liu")
def qc_liu(t: Triple) -> Tensor:
    """Liu and MEFB: SSIM without constants, and quality 0 or 1 where the share leaves [0, 1].

    In flat areas the toolboxes divide rounding noise by rounding noise, so their value for images that have them hangs
    on the order of summation. Here noise counts as 0, windows without covariance are left out as MEFB leaves out NaN,
    and an image of nothing else gives 0.
    """
    m = _moments7(t)
    s_a, s_b = ssim_maps(m, 255, LIU)
    total = m.cov_af + m.cov_bf
    part = m.cov_af / torch.where(total != 0, total, 1)
    quality = part * s_a + (1 - part) * s_b
    quality = torch.where(part < 0, 0, torch.where(part > 1, 1, quality))
    return _mean_of_defined(quality, total != 0)


def _yang(t: Triple, constants: tuple[float, float]) -> Tensor:
    """Mean of Yang's local quality."""
    m = _moments7(t)
    cov_ab = t.once("cov ab 7", lambda: settle(smooth(t.a * t.b, 7, 1.5, "valid") - m.mean[0] * m.mean[1]))
    c1, c2 = (k * 255**2 for k in constants)
    s_a, s_b = ssim_maps(m, 255, constants)
    s_ab = luminance(m.mean[0], m.mean[1], c1) * contrast_structure(m.var[0], m.var[1], cov_ab, c2)
    part = share(m.var[0], m.var[1])
    quality = torch.where(s_ab >= 0.75, part * s_a + (1 - part) * s_b, torch.maximum(s_a, s_b))
    return quality.mean((-2, -1))


@metric(
    "qy",
    symbol="Q_Y",
    title="Yang's similarity-based quality",
    bounds=(-1, 1),
    source="Yang et al. 2008, Eq. 5",
    double=True,
)
def qy(t: Triple) -> Tensor:
    """Where the sources are alike (SSIM >= 0.75, 7 x 7) the variance-weighted SSIM to them, elsewhere the larger one.

    SSIM keeps its usual constants, so flat areas are stable; in [-1, 1], higher is better.
    """
    return _yang(t, WANG)


@variant("qy", "mefb", "liu")
def qy_liu(t: Triple) -> Tensor:
    """Liu and MEFB: SSIM without constants; rounding noise of flat areas, which the toolboxes divide, counts as 0."""
    return _yang(t, LIU)
