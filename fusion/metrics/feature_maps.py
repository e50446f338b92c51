"""The feature maps whose mutual information FMI measures (Haghighat and Razian 2014)."""

import functools
import math

import torch
from torch import Tensor

from fusion.metrics.filters import central_difference, pad, sobel

# Discrete Meyer wavelet (Abry 1997): the low-pass taps from the outermost to the middle one; symmetric, 61 taps
MEYER = (
    -1.009999956941423e-12, 8.519459636796214e-09, -1.111944952595278e-08, -1.0798819539621958e-08,
    6.066975741351135e-08, -1.0866516536735883e-07, 8.200680650386481e-08, 1.1783004497663934e-07,
    -5.506340565252278e-07, 1.1307947017916706e-06, -1.489549216497156e-06, 7.367572885903746e-07,
    3.20544191334478e-06, -1.6312699734552807e-05, 6.554305930575149e-05, -0.0006011502343516092,
    -0.002704672124643725, 0.002202534100911002, 0.006045814097323304, -0.006387718318497156,
    -0.011061496392513451, 0.015270015130934803, 0.017423434103729693, -0.03213079399021176,
    -0.024348745906078023, 0.0637390243228016, 0.030655091960824263, -0.13284520043622938,
    -0.035087555656258346, 0.44459300275757724, 0.7445855923188063,
)  # fmt: skip
TAPS = 2 * len(MEYER)
STRIP = 32  # outputs of the wavelet transform per matrix product


def gradient_map(planes: Tensor) -> Tensor:
    """Central differences along columns."""
    return central_difference(planes)[0]


def edge_map(planes: Tensor) -> Tensor:
    """Binary Sobel edges `(..., H, W)`, as Matlab's `edge` finds and thins them.

    An edge pixel has a squared gradient above four times the mean, and is a maximum of it across the gradient's main
    direction.
    """
    dx, dy = (d / 8 for d in sobel(planes, "replicate"))
    strength = dx * dx + dy * dy
    slack = 100 * torch.finfo(planes.dtype).eps
    outside = torch.nn.functional.pad(strength, (1, 1, 1, 1), value=-torch.inf)
    left, right = outside[..., 1:-1, :-2], outside[..., 1:-1, 2:]
    up, down = outside[..., :-2, 1:-1], outside[..., 2:, 1:-1]
    across_columns = (dx.abs() >= dy.abs() - slack) & (left <= strength) & (strength > right)
    across_rows = (dy.abs() >= dx.abs() - slack) & (up <= strength) & (strength > down)
    return (strength > 4 * strength.mean((-2, -1), keepdim=True)) & (across_columns | across_rows)


def _dct(planes: Tensor) -> Tensor:
    """Orthonormal DCT-II along the last axis, from the Fourier transform of the even samples and the odd ones backwards.

    Source: Makhoul 1980.
    """
    n = planes.shape[-1]
    spectrum = torch.fft.rfft(torch.cat((planes[..., ::2], planes[..., 1::2].flip(-1)), -1))
    k = torch.arange(n // 2 + 1, device=planes.device, dtype=planes.dtype)
    turned = spectrum * torch.polar(torch.full_like(k, math.sqrt(2 / n)), -math.pi * k / (2 * n))
    low, high = turned.real, -turned.imag[..., 1 : (n + 1) // 2].flip(-1)
    return torch.cat((low[..., :1] / math.sqrt(2), low[..., 1:], high), -1)


@functools.lru_cache(maxsize=4)
def _meyer(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Low-pass and high-pass taps of the discrete Meyer wavelet, for `STRIP` outputs each of a decimated correlation.

    Returns:
        `(2 STRIP, 2 STRIP + 60)`; low-pass rows above high-pass rows.
    """
    low = torch.tensor((*MEYER, *MEYER[-2::-1], 0.0), dtype=torch.float64)  # as a correlation: time-reversed
    high = low.flip(0) * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(len(low) // 2)
    bands = torch.zeros(2, STRIP, len(low) + 2 * STRIP - 2, dtype=torch.float64)
    for i in range(STRIP):
        bands[:, i, 2 * i : 2 * i + len(low)] = torch.stack((low, high))
    return bands.flatten(0, 1).to(device, dtype)


def _wavelet(planes: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the discrete Meyer transform along the rows' axis, half-point symmetric: low and high band."""
    matrix, n = _meyer(planes.device, planes.dtype), planes.shape[-2]
    reach, count = TAPS - 1, (n + TAPS - 1) // 2
    outputs = -(-count // STRIP) * STRIP
    extended = pad(planes, (reach, reach), (0, 0), "symmetric")[..., 1:, :]
    extended = pad(extended, (0, max(0, 2 * outputs + TAPS - 2 - extended.shape[-2])), (0, 0), "zero")
    step, reads = 2 * STRIP, matrix.shape[1]
    strips = [matrix @ extended[..., s : s + reads, :] for s in range(0, 2 * outputs, step)]
    low, high = zip(*(strip.chunk(2, -2) for strip in strips), strict=True)
    return torch.cat(low, -2)[..., :count, :], torch.cat(high, -2)[..., :count, :]


def dct_map(planes: Tensor) -> Tensor:
    """Two-dimensional DCT of the whole plane."""
    return _dct(_dct(planes).transpose(-1, -2)).transpose(-1, -2)


def wavelet_map(planes: Tensor) -> Tensor:
    """One level of the discrete Meyer transform: approximation beside detail across rows, above the other two bands."""
    low, high = _wavelet(planes)
    approximation, across_columns = _wavelet(low.transpose(-1, -2))
    across_rows, diagonal = _wavelet(high.transpose(-1, -2))
    left, right = torch.cat((approximation, across_rows), -2), torch.cat((across_columns, diagonal), -2)
    return torch.cat((left, right), -1).transpose(-1, -2)
