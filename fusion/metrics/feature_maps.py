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


@functools.lru_cache(maxsize=8)
def _cosines(n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Matrix of the orthonormal DCT-II."""
    k = torch.arange(n, device=device, dtype=dtype)
    matrix = torch.cos(math.pi / n * (k + 0.5)[None, :] * k[:, None]) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


@functools.lru_cache(maxsize=8)
def _meyer(n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Matrix of one level of the discrete Meyer transform: low-pass rows above high-pass rows; half-point symmetric."""
    low = torch.tensor((*MEYER, *MEYER[-2::-1], 0.0), dtype=torch.float64)  # as a correlation: time-reversed
    high = low.flip(0) * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(len(low) // 2)
    reach = len(low) - 1
    extended = pad(torch.eye(n, dtype=torch.float64), (reach, reach), (0, 0), "symmetric")  # (n + 2 reach, n)
    windows = extended.unfold(0, len(low), 1)[1::2]  # (rows, n, taps)
    return torch.cat((windows @ low, windows @ high)).to(device, dtype)


def _transformed(planes: Tensor, matrix: "functools._lru_cache_wrapper[Tensor]") -> Tensor:
    h, w = planes.shape[-2:]
    rows, columns = (matrix(n, planes.device, planes.dtype) for n in (h, w))
    return rows @ planes @ columns.T


def dct_map(planes: Tensor) -> Tensor:
    """Two-dimensional DCT of the whole plane."""
    return _transformed(planes, _cosines)


def wavelet_map(planes: Tensor) -> Tensor:
    """One level of the discrete Meyer transform: approximation beside detail across rows, above the other two bands."""
    top, bottom = _transformed(planes, _meyer).chunk(2, -2)
    (approximation, across_columns), (across_rows, diagonal) = top.chunk(2, -1), bottom.chunk(2, -1)
    upper, lower = torch.cat((approximation, across_rows), -1), torch.cat((across_columns, diagonal), -1)
    return torch.cat((upper, lower), -2)
