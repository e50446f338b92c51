"""Metrics of visual information fidelity: how much of the sources' detail survives a model of the eye."""

from collections.abc import Callable

import torch
from torch import Tensor

from fusion.metrics.filters import smooth
from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple

WINDOWS = (17, 9, 5, 3)
"""Taps of the Gaussian window at scales 1 to 4; sigma is a fifth of it (Sheikh and Bovik's pixel-domain code)."""
EPS = 1e-10
Multiply = Callable[[Tensor, Tensor], Tensor]


def _moments(stack: Tensor, window: int, multiply: Multiply = torch.mul) -> tuple[Tensor, Tensor]:
    """Local variances `(3, N, h, w)`, and covariances of the sources with the fused image `(2, N, h, w)`.

    Args:
        stack: a, b, fused `(3, N, H, W)` in 0..255.
        window: taps of the Gaussian window.
        multiply: the product of two images (bytes saturate in an old form of the toolbox).
    """
    mean = smooth(stack, window, window / 5, "valid")
    var = (smooth(multiply(stack, stack), window, window / 5, "valid") - mean * mean).clamp_min(0)
    cov = smooth(multiply(stack[:2], stack[2:].expand_as(stack[:2])), window, window / 5, "valid") - mean[:2] * mean[2]
    return var, cov


def _information(var: Tensor, cov: Tensor, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Information per pixel that the fused image and the eye receive of each source.

    Args:
        var: local variances, as `_moments` gives them.
        cov: local covariances.
        noise: variance of the eye's noise.

    Returns:
        Numerator, denominator (decades) and gain, each `(2, N, h, w)`.
    """
    source, fused = var[:2], var[2:].expand_as(var[:2])
    gain = cov / (source + EPS)
    rest = fused - gain * cov
    no_source, no_fused = source < EPS, fused < EPS
    gain = torch.where(no_source | no_fused, 0, gain)
    rest = torch.where(no_source, fused, rest)
    rest = torch.where(no_fused, 0, rest)
    source = torch.where(no_source, 0, source)
    rest = torch.where(gain < 0, fused, rest).clamp_min(EPS)
    gain = gain.clamp_min(0)
    return (1 + gain**2 * source / (rest + noise)).log10(), (1 + source / noise).log10(), gain


def _scales(t: Triple) -> list[tuple[Tensor, int]]:
    """Planes and window of each scale on which the window fits: filtered by it, then every second pixel kept.

    Below 17 pixels there is one scale, with the widest window that fits.
    """
    stack, out = t.stack, []
    if min(t.shape) < WINDOWS[0]:
        return [(stack, next(window for window in WINDOWS if window <= min(t.shape)))]
    for scale, window in enumerate(WINDOWS):
        if scale:
            if min(stack.shape[-2:]) < window:
                break
            stack = smooth(stack, window, window / 5, "valid")[..., ::2, ::2]
        if min(stack.shape[-2:]) >= window:
            out.append((stack, window))
    return out


def _scale_moments(t: Triple) -> list[tuple[Tensor, Tensor]]:
    """`_moments` of every scale, which VIF and VIFF share."""
    scales = t.once("vif scales", lambda: _scales(t))
    return t.once("vif moments", lambda: [_moments(stack, window) for stack, window in scales])


def _vif(t: Triple, moments_of_scales: list[tuple[Tensor, Tensor]]) -> Tensor:
    num = den = torch.zeros((), dtype=t.a.dtype, device=t.a.device)
    for var, cov in moments_of_scales:
        n, d, _ = _information(var, cov, 2.0)
        num, den = num + n.sum((-2, -1)), den + d.sum((-2, -1))
    return (num / torch.where(den > 0, den, 1)).sum(0)


@metric(
    "vif",
    symbol="VIF",
    title="visual information fidelity, pixel domain",
    bounds=(0, None),
    source="Sheikh and Bovik 2006 (vifp), summed over the sources",
    also=("tang",),
    double=True,
)
def vif(t: Triple) -> Tensor:
    """Pixel-domain VIF of the fused image to each source, summed over the two; higher is better, usually below 2.

    Four scales with windows of 17, 9, 5 and 3 pixels, noise variance 2 on 0..255. Small images use the scales on which
    the window fits (41 pixels for all). A source without any detail adds 0 (the toolbox gives NaN).
    """
    return _vif(t, _scale_moments(t))


def _byte_product(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).clamp(max=255)


@variant("vif", "tang_legacy")
def vif_legacy(t: Triple) -> Tensor:
    """What published TNO tables hold: products saturate in bytes at the finest scale, which so hardly counts."""
    scales = t.once("vif scales", lambda: _scales(t))
    products = (_byte_product if scale == 0 else torch.mul for scale in range(len(scales)))
    return _vif(t, [_moments(*scale, multiply) for scale, multiply in zip(scales, products, strict=True)])


@metric(
    "viff",
    symbol="VIFF",
    title="visual information fidelity for fusion",
    bounds=(0, None),
    source="Han et al. 2013",
    also=("mefb",),
    double=True,
)
def viff(t: Triple) -> Tensor:
    """VIF to whichever source has the smaller gain at each pixel, weighted over four scales; higher is better.

    Noise variance 0.005 x 255^2; scale weights (1, 0, 0.15, 1) / 2.15, rescaled where an image is too small.
    """
    weights = (1.0, 0.0, 0.15, 1.0)
    total, used = torch.zeros((), dtype=t.a.dtype, device=t.a.device), 0.0
    for (var, cov), weight in zip(_scale_moments(t), weights, strict=False):
        if weight == 0:
            continue
        num, den, gain = _information(var, cov, 0.005 * 255**2)
        first = gain[0] < gain[1]
        kept = torch.where(first, num[0], num[1]) + 1e-7
        offered = torch.where(first, den[0], den[1]) + 1e-7
        total = total + weight * kept.sum((-2, -1)) / offered.sum((-2, -1))
        used += weight
    return total / used if used else t.a.new_zeros(t.a.shape[0])
