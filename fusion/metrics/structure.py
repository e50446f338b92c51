"""Metrics of structural similarity: SSIM to each source, and its weighted relatives."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.metrics.filters import Border, smooth
from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple

WANG = (0.01**2, 0.03**2)
"""SSIM's constants K1^2 and K2^2 (Wang et al. 2004)."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales of MS-SSIM (Wang, Simoncelli and Bovik 2003)."""


@dataclass(frozen=True)
class Moments:
    """Local means `(3, N, h, w)`, variances `(3, N, h, w)` and covariances `(N, h, w)` of a, b and fused."""

    mean: Tensor
    var: Tensor
    cov_af: Tensor
    cov_bf: Tensor


def moments(stack: Tensor, size: int = 11, sigma: float = 1.5, border: Border = "valid") -> Moments:
    """Gaussian-weighted local moments of `(3, N, H, W)` planes."""
    mean = smooth(stack, size, sigma, border)
    var = smooth(stack * stack, size, sigma, border) - mean * mean
    cross = smooth(stack[:2] * stack[2], size, sigma, border) - mean[:2] * mean[2]
    return Moments(mean, var, cross[0], cross[1])


def level_moments(t: Triple, stack: Tensor, level: int) -> Moments:
    """Moments in 11 x 11 windows of `stack`, the triple halved `level` times.

    Shared by what halves alike: rules differ in what becomes of an odd edge, and then the sizes differ.
    """
    return t.once(("moments 11", level, *stack.shape[-2:]), lambda: moments(stack))


def luminance(x: Tensor, y: Tensor, c1: float) -> Tensor:
    """SSIM's comparison of local means."""
    return (2 * x * y + c1) / (x * x + y * y + c1)


def contrast_structure(var_x: Tensor, var_y: Tensor, cov: Tensor, c2: float) -> Tensor:
    """SSIM's comparison of local contrast and structure."""
    return (2 * cov + c2) / (var_x + var_y + c2)


def ssim_maps(m: Moments, peak: float, constants: tuple[float, float] = WANG) -> tuple[Tensor, Tensor]:
    """SSIM maps of the fused image with a and with b, `(N, h, w)` each, for images in 0..`peak`."""
    c1, c2 = (k * peak**2 for k in constants)
    l_a, l_b = luminance(m.mean[0], m.mean[2], c1), luminance(m.mean[1], m.mean[2], c1)
    s_a = contrast_structure(m.var[0], m.var[2], m.cov_af, c2)
    s_b = contrast_structure(m.var[1], m.var[2], m.cov_bf, c2)
    return l_a * s_a, l_b * s_b


@metric(
    "ssim",
    symbol="SSIM",
    title="structural similarity to the sources",
    bounds=(-1, 1),
    source="Wang et al. 2004",
    double=True,
)
def ssim(t: Triple) -> Tensor:
    """Mean over the two sources of SSIM (11 x 11 Gaussian, sigma 1.5, data range 1); in [-1, 1], higher is better.

    Windows stay inside the image, as in Wang's code and scikit-image; torchmetrics and kornia pad the border.
    VIFB publishes the sum over the sources (up to 2) per channel, and Tang's code a far lower value by a wrong range.
    """
    s_a, s_b = ssim_maps(level_moments(t, t.stack, 0), 255)
    return (s_a + s_b).mean((-2, -1)) / 2


@variant("ssim", "vifb")
def ssim_vifb(t: Triple) -> Tensor:
    """VIFB: the sum over the sources, up to 2, mean over the channels."""
    return 2 * ssim(t)


@variant("ssim", "tang", "tang_legacy")
def ssim_tang(t: Triple) -> Tensor:
    """Tang: Matlab's `ssim` on 0..255 doubles, whose constants then stand for range 1; replicated border."""
    m = t.once("moments replicate", lambda: moments(t.stack, border="replicate"))
    s_a, s_b = ssim_maps(m, 1)
    return (s_a + s_b).mean((-2, -1)) / 2


@metric(
    "ms_ssim",
    symbol="MS-SSIM",
    title="multi-scale structural similarity to the sources",
    bounds=(0, 1),
    source="Wang, Simoncelli and Bovik 2003",
    double=True,
)
def ms_ssim(t: Triple) -> Tensor:
    """Mean over the two sources of five-scale MS-SSIM (data range 1); in [0, 1], higher is better.

    Windows stay inside the image, as in Wang's code; torchmetrics reflects the border and lies up to 0.02 off.
    Images under 176 pixels use the scales on which the 11 x 11 window fits, their exponents rescaled to sum to 1.
    Negative factors count as 0. No fusion toolbox has this metric: what Tang's calls MS_SSIM is `mef_ssim`.
    """
    stack = t.stack
    scales = sum(min(t.shape) // 2**i >= 11 for i in range(len(SCALE_WEIGHTS)))
    weights = [w / sum(SCALE_WEIGHTS[:scales]) for w in SCALE_WEIGHTS[:scales]]
    product: Tensor | None = None
    for i, weight in enumerate(weights):
        if i:
            stack = F.avg_pool2d(stack, 2)
        m = level_moments(t, stack, i)
        c2 = WANG[1] * 255**2
        factor = torch.stack(
            (
                contrast_structure(m.var[0], m.var[2], m.cov_af, c2),
                contrast_structure(m.var[1], m.var[2], m.cov_bf, c2),
            )
        )
        if i == scales - 1:
            factor = factor * luminance(m.mean[:2], m.mean[2], WANG[0] * 255**2)
        score = factor.mean((-2, -1))
        positive = score > 0
        powered = torch.where(positive, score, 1).pow(weight) * positive
        product = powered if product is None else product * powered
    assert product is not None
    return product.mean(0)
