"""Linear filters with the borders that the metrics' definitions ask for, as sums of shifted planes.

In double precision on a CPU a sum of shifted slices is several times faster than `conv2d`, and the order of summation
is ours to choose, which decides ties in some toolboxes. Long kernels are faster still as products with a banded matrix.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["valid", "zero", "replicate", "reflect", "symmetric"]
LONG = 7  # taps from which, on a CPU, the product is faster than the sum of slices
STRIP = 32  # outputs per product


@functools.lru_cache(maxsize=64)
def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """1-D Gaussian of `size` taps that sums to 1; its outer product with itself is Matlab's `fspecial('gaussian')`."""
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    g = torch.exp(-(x**2) / (2 * sigma**2))
    return tuple((g / g.sum()).tolist())


def pad(planes: Tensor, rows: tuple[int, int], columns: tuple[int, int], border: Border) -> Tensor:
    """Pads `(..., H, W)` by (before, after) rows and columns; `symmetric` repeats the edge pixel."""
    if border == "valid" or not any(rows + columns):
        return planes
    if border == "zero":
        return F.pad(planes, (*columns, *rows))
    if border == "symmetric":
        return _mirror(_mirror(planes, rows, -2), columns, -1)
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    return F.pad(flat, (*columns, *rows), mode=border).reshape(*planes.shape[:-2], *_padded(planes, rows, columns))


def _padded(planes: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[int, int]:
    return planes.shape[-2] + sum(rows), planes.shape[-1] + sum(columns)


def _mirror(planes: Tensor, amounts: tuple[int, int], dim: int) -> Tensor:
    n = planes.shape[dim]
    index = torch.arange(-amounts[0], n + amounts[1], device=planes.device) % (2 * n)
    return planes.index_select(dim, torch.where(index < n, index, 2 * n - 1 - index))


def correlate1d(planes: Tensor, taps: Sequence[float], dim: int) -> Tensor:
    """`valid` correlation of `(..., H, W)` with `taps` along `dim` (-1 or -2)."""
    length = planes.shape[dim] - len(taps) + 1
    if len(taps) >= LONG and planes.device.type == "cpu":
        return _correlate_in_strips(planes, tuple(taps), dim, length)
    if len(taps) >= LONG and planes.dtype == torch.float64:  # in float32 a GPU's products may be TF32
        return correlate_in_windows(planes, taps, dim)
    out: Tensor | None = None
    for i, tap in enumerate(taps):
        if tap == 0:
            continue
        shifted = planes.narrow(dim, i, length)
        out = shifted * tap if out is None else out.add_(shifted, alpha=tap)
    assert out is not None
    return out


def correlate_in_windows(planes: Tensor, taps: Sequence[float], dim: int) -> Tensor:
    """`correlate1d` as one product of overlapping windows and a band: few kernels, little memory traffic on a GPU."""
    reach = len(taps) - 1
    length = planes.shape[dim] - reach
    missing = -length % STRIP
    band = _band(tuple(taps), planes.dtype, planes.device)
    padded = F.pad(planes, (0, missing) if dim == -1 else (0, 0, 0, missing))
    windows = padded.unfold(dim, STRIP + reach, STRIP)  # (..., H, n, reads), or (..., n, W, reads) along rows
    if dim == -1:
        return (windows @ band.T).flatten(-2)[..., :length]
    return (band @ windows.transpose(-1, -2)).flatten(-3, -2)[..., :length, :]


@functools.lru_cache(maxsize=32)
def _band(taps: tuple[float, ...], dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Matrix `(STRIP, STRIP + taps - 1)` whose row i holds the taps from column i on."""
    with torch.inference_mode(False):  # a matrix made for inference could not serve a gradient later
        row = torch.tensor([*taps, *[0.0] * STRIP], dtype=dtype)
        return row.repeat(STRIP)[: STRIP * (len(row) - 1)].reshape(STRIP, -1).to(device)


def _correlate_in_strips(planes: Tensor, taps: tuple[float, ...], dim: int, length: int) -> Tensor:
    strips = []
    for start in range(0, length, STRIP):
        size = min(STRIP, length - start)
        window = planes.narrow(dim, start, size + len(taps) - 1)
        band = _band(taps, planes.dtype)[:size, : window.shape[dim]]
        strips.append(window @ band.T if dim == -1 else band @ window)
    return torch.cat(strips, dim)


def separable(planes: Tensor, vertical: Sequence[float], horizontal: Sequence[float], border: Border) -> Tensor:
    """Correlation with the outer product of two 1-D kernels.

    Args:
        planes: `(..., H, W)`.
        vertical: taps along the rows' axis.
        horizontal: taps along the columns' axis.
        border: `valid` shrinks the result; the others keep the size.
    """
    v, h = len(vertical), len(horizontal)
    margins = ((v - 1) // 2, v // 2), ((h - 1) // 2, h // 2)
    if border == "valid":
        margins = (0, 0), (0, 0)
    tracked = torch.is_grad_enabled() and planes.requires_grad
    if min(v, h) >= LONG and planes.device.type == "cpu" and not tracked:
        size = [
            n + sum(m) - len(taps) + 1
            for n, m, taps in zip(planes.shape[-2:], margins, (vertical, horizontal), strict=True)
        ]
        out = planes.new_empty(*planes.shape[:-2], *size)
        for plane, whole in zip(planes.reshape(-1, *planes.shape[-2:]), out.reshape(-1, *size), strict=True):
            _separable_in_strips(pad(plane, *margins, border), tuple(vertical), tuple(horizontal), whole)
        return out
    return correlate1d(correlate1d(pad(planes, *margins, border), vertical, -2), horizontal, -1)


def _separable_in_strips(
    plane: Tensor, vertical: tuple[float, ...], horizontal: tuple[float, ...], out: Tensor
) -> None:
    """`valid` correlation of `(H, W)`, each strip written where it belongs: twice as fast, but no gradient passes."""
    (h, w), between = out.shape, plane.new_empty(len(out), plane.shape[-1])
    down, across = _band(vertical, plane.dtype), _band(horizontal, plane.dtype)
    for start in range(0, h, STRIP):
        n = min(STRIP, h - start)
        reads = n + len(vertical) - 1
        torch.mm(down[:n, :reads], plane[start : start + reads], out=between[start : start + n])
    for start in range(0, w, STRIP):
        n = min(STRIP, w - start)
        reads = n + len(horizontal) - 1
        torch.mm(between[:, start : start + reads], across[:n, :reads].T, out=out[:, start : start + n])


def smooth(planes: Tensor, size: int, sigma: float, border: Border) -> Tensor:
    """Gaussian window of `size` x `size` taps, sum 1."""
    g = gaussian(size, sigma)
    return separable(planes, g, g, border)


def box(planes: Tensor, size: int) -> Tensor:
    """Mean over `size` x `size` windows, `valid`."""
    taps = [1.0 / size] * size
    return separable(planes, taps, taps, "valid")


def root(square: Tensor) -> Tensor:
    """Square root of values from 0 on; its gradient at 0 is 0, not NaN."""
    if not square.requires_grad:
        return square.sqrt()
    positive = square > 0
    return torch.where(positive, square, 1).sqrt() * positive


def magnitude(x: Tensor, y: Tensor) -> Tensor:
    """`sqrt(x^2 + y^2)` whose gradient is 0, not NaN, where both are 0."""
    return root(x * x + y * y)


def sobel(planes: Tensor, border: Border) -> tuple[Tensor, Tensor]:
    """Sobel derivatives of `(..., H, W)`: right minus left and upper minus lower, unnormalised."""
    smooth_taps, difference = (1.0, 2.0, 1.0), (-1.0, 0.0, 1.0)
    padded = pad(planes, (1, 1), (1, 1), border)
    dx = correlate1d(correlate1d(padded, difference, -1), smooth_taps, -2)
    dy = correlate1d(correlate1d(padded, tuple(-d for d in difference), -2), smooth_taps, -1)
    return dx, dy


def central_difference(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Matlab's `gradient`: central differences inside, one-sided at the border; along columns and along rows."""
    dy, dx = torch.gradient(planes, dim=(-2, -1))
    return dx, dy


def inverse_rfft2(spectrum: Tensor, size: tuple[int, int]) -> Tensor:
    """`torch.fft.irfft2` in two steps: several times faster on a CPU, where the joint one copies its input."""
    return torch.fft.irfft(torch.fft.ifft(spectrum, dim=-2), n=size[1], dim=-1)
