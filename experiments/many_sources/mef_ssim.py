"""MEF-SSIM for any number of exposures (Ma, Zeng and Wang 2015); `fusion.metrics` has it for two."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.metrics.exposure import EPS, LEVELS, WINDOW, halve
from fusion.metrics.filters import box, root, smooth
from fusion.metrics.structure import SCALE_WEIGHTS


def mef_ssim(sources: Sequence[Tensor], fused: Tensor) -> float:
    """Similarity of the fused image to the patches that combine the sources' structures, in [0, 1].

    Args:
        sources: luma `(H, W)` in [0, 255].
        fused: likewise.
    """
    stack = torch.stack([*sources, fused]).double()
    levels = 1 + sum(min(fused.shape) / 2**i > WINDOW - 1 for i in range(1, LEVELS))
    weights = SCALE_WEIGHTS[:levels]
    product = 1.0
    for index, weight in enumerate(weights):
        stack = halve(stack[:, None])[:, 0] if index else stack
        product *= max(_similarity(stack[:-1], stack[-1]), 0.0) ** (weight / sum(weights))
    return product


def _similarity(sources: Tensor, fused: Tensor) -> float:
    count, size = len(sources), WINDOW**2
    mean = box(sources, WINDOW)
    gram = torch.stack([box(sources * one, WINDOW) for one in sources])  # (n, n, h, w)
    gram = size * (gram - mean[None] * mean[:, None])
    own = torch.stack([gram[i, i].clamp_min(0) for i in range(count)])
    strength = root(own)
    together = root(gram.sum((0, 1)).clamp_min(0))
    consistency = ((together + EPS) / (strength.sum(0) + EPS)).clamp(EPS, 1 - EPS)
    power = torch.tan(consistency * (math.pi / 2)).clamp(max=10)
    strength = strength + 0.001
    weight = (strength / WINDOW) ** power + EPS
    beta = weight / weight.sum(0) / strength
    norm = root((beta[:, None] * beta[None] * gram).sum((0, 1)).clamp_min(0))
    alpha = beta * strength.amax(0) / torch.where(norm > 0, norm, 1)

    def gauss(x: Tensor) -> Tensor:
        return smooth(x, WINDOW, 1.5, "valid")

    middle, middle_f = gauss(sources), gauss(fused[None])[0]
    cov = torch.stack([gauss(sources * one) for one in sources]) - middle[None] * middle[:, None]
    var_r = (alpha[:, None] * alpha[None] * cov).sum((0, 1))
    cov_rf = (alpha * (gauss(sources * fused) - middle * middle_f)).sum(0)
    var_f = gauss((fused * fused)[None])[0] - middle_f**2
    c = (0.03 * 255) ** 2
    return float(((2 * cov_rf + c) / (var_r + var_f + c)).mean())
