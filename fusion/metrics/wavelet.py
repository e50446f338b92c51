"""Q_M: how well the Haar detail coefficients of the sources survive, scale by scale (Wang and Liu 2008)."""

import torch
from torch import Tensor

from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple

EXPONENTS = (2 / 3, 1 / 3)  # of the finer and the coarser scale


def haar(planes: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform of `(..., H, W)`; the last row or column of an odd side is left out.

    Returns:
        Approximation `(..., h, w)` and details `(3, ..., h, w)`: along columns, along rows, diagonal.
    """
    h, w = planes.shape[-2:]
    planes = planes[..., : h - h % 2, : w - w % 2]
    p, q = planes[..., ::2, ::2], planes[..., ::2, 1::2]
    r, s = planes[..., 1::2, ::2], planes[..., 1::2, 1::2]
    details = torch.stack((p - q + r - s, p + q - r - s, p - q - r + s)) / 2
    return (p + q + r + s) / 2, details


def _quality(t: Triple) -> Tensor:
    product = torch.ones((), dtype=t.a.dtype, device=t.a.device)
    approximation = t.stack
    for exponent in EXPONENTS:
        approximation, details = haar(approximation)  # details (3 bands, 3 images, N, h, w)
        kept = torch.exp(-(details[:, :2] - details[:, 2:]).abs()).sum(0)
        energy = (details[:, :2] ** 2).sum(0)
        total = energy.sum((0, -2, -1))
        weighted = (kept * energy).sum((0, -2, -1)) / torch.where(total > 0, total, 1)
        quality = torch.where(total > 0, weighted, kept.mean((0, -2, -1)))
        product = product * quality**exponent
    return product


@metric(
    "qm",
    symbol="Q_M",
    title="multiscale edge preservation",
    bounds=(0, 1),
    source="Wang and Liu 2008, Haar, two scales",
)
def qm(t: Triple) -> Tensor:
    """Closeness `exp(-|difference|)` of the Haar details of 0..255 images, weighted by the sources' detail energy.

    Mean over the three bands, product over two scales; in [0, 1], higher is better. Without any detail in the sources
    all places count alike.
    """
    return _quality(t) / 3


@variant("qm", "liu")
def qm_liu(t: Triple) -> Tensor:
    """Liu: the sum over the three bands, so that identical images give 3 (NaN there without any detail)."""
    return _quality(t)
