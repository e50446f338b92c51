"""MEF-SSIM: structural similarity to the best patch that the sources could give."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.metrics.filters import box, pad, root, smooth
from fusion.metrics.registry import metric, variant
from fusion.metrics.structure import SCALE_WEIGHTS, Moments, level_moments
from fusion.metrics.triple import Triple

WINDOW = 11
LEVELS = 3
EPS = 2.0**-52  # Matlab's eps, which the reference code adds


def _similarity(stack: Tensor, m: Moments) -> Tensor:
    """Mean similarity of the fused image to the reference patches, `(N,)`, at one level of 11 x 11 moments `m`.

    The reference patch is a combination `alpha_a (x_a - mu_a) + alpha_b (x_b - mu_b)` of the source patches, so its
    moments follow from those of the sources and no patch is ever formed.
    """
    a, b, _ = stack
    size = WINDOW**2
    products = torch.stack((a * a, b * b, a * b))
    mean = box(stack[:2], WINDOW)
    flat = box(products, WINDOW)
    s_aa, s_bb = (size * (flat[i] - mean[i] ** 2).clamp_min(0) for i in (0, 1))
    s_ab = size * (flat[2] - mean[0] * mean[1])
    strength = torch.stack((root(s_aa), root(s_bb)))  # norms of the centred patches
    together = root((s_aa + s_bb + 2 * s_ab).clamp_min(0))
    consistency = ((together + EPS) / (strength.sum(0) + EPS)).clamp(EPS, 1 - EPS)
    power = torch.tan(consistency * (math.pi / 2)).clamp(max=10)
    strength = strength + 0.001
    weight = (strength / WINDOW) ** power + EPS
    beta = weight / weight.sum(0) / strength
    norm = root((beta[0] ** 2 * s_aa + beta[1] ** 2 * s_bb + 2 * beta[0] * beta[1] * s_ab).clamp_min(0))
    alpha = beta * strength.amax(0) / torch.where(norm > 0, norm, 1)

    cov_ab = smooth(products[2], WINDOW, 1.5, "valid") - m.mean[0] * m.mean[1]
    var_r = alpha[0] ** 2 * m.var[0] + alpha[1] ** 2 * m.var[1] + 2 * alpha[0] * alpha[1] * cov_ab
    cov_rf = alpha[0] * m.cov_af + alpha[1] * m.cov_bf
    c = (0.03 * 255) ** 2
    return ((2 * cov_rf + c) / (var_r + m.var[2] + c)).mean((-2, -1))


def halve(stack: Tensor) -> Tensor:
    """2 x 2 mean, every second pixel; an odd edge is repeated."""
    h, w = stack.shape[-2:]
    return F.avg_pool2d(pad(stack, (0, h % 2), (0, w % 2), "symmetric"), 2)


@metric(
    "mef_ssim",
    symbol="MEF-SSIM",
    title="structural similarity for multi-exposure fusion",
    bounds=(0, 1),
    source="Ma, Zeng and Wang 2015",
    also=("tang", "tang_legacy"),
    double=True,
)
def mef_ssim(t: Triple) -> Tensor:
    """Similarity of the fused image to the patches that combine the sources' structures; in [0, 1], higher is better.

    Three levels (weights 0.0448, 0.2856, 0.3001, rescaled to sum 1), 11 x 11 windows, contrast and structure only. What
    Tang's toolbox calls MS_SSIM is this. Images too small for a level do without it; negative levels count as 0.
    """
    levels = 1 + sum(min(t.shape) / 2**i > WINDOW - 1 for i in range(1, LEVELS))
    weights = SCALE_WEIGHTS[:levels]
    stack, product = t.stack, torch.ones((), dtype=t.a.dtype, device=t.a.device)
    for i, weight in enumerate(weights):
        if i:
            stack = halve(stack)
        value = _similarity(stack, level_moments(t, stack, i))
        positive = value > 0
        product = product * torch.where(positive, value, 1).pow(weight / sum(weights)) * positive
    return product


variant("mef_ssim", "mefb", color="luma")(mef_ssim)  # the toolbox calls rgb2gray itself
variant("ms_ssim", "tang", "tang_legacy")(mef_ssim)  # by that name in Tang's toolbox
