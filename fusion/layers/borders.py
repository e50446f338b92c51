"""Reflected borders, also of pictures whose size is known only when an exported graph runs."""

import torch
import torch.nn.functional as F
from torch import Tensor


def is_symbolic(size: int | torch.SymInt) -> bool:
    """Whether a side is a symbol, as it is while a graph with dynamic sizes is exported: it then decides no branch."""
    return isinstance(size, torch.SymInt)


def reflected_indices(size: int, total: int, device: torch.device, before: int = 0) -> Tensor:
    """Where the pixels of a reflected axis come from, as often reflected as needed: `(total,)` int64.

    Args:
        size: pixels of the axis.
        total: pixels of the extended axis.
        device: of the result.
        before: how many of them lie before the first.
    """
    if is_symbolic(size):  # reflected once: exported graphs take no picture smaller than its border
        return size - 1 - (size - 1 - (torch.arange(total, device=device) - before).abs()).abs()
    if size == 1:
        return torch.zeros(total, dtype=torch.long, device=device)
    period = 2 * (size - 1)
    index = (torch.arange(total, device=device) - before).abs() % period
    return torch.where(index < size, index, period - index)


def reflect(x: Tensor, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0) -> Tensor:
    """`F.pad` of `(B, C, H, W)` in mode "reflect", which an exported graph can also do by symbolic amounts."""
    if not any(is_symbolic(value) for value in (left, right, top, bottom)):
        return F.pad(x, (left, right, top, bottom), mode="reflect") if left or right or top or bottom else x
    for axis, before, after in ((-2, top, bottom), (-1, left, right)):
        size = x.shape[axis]
        x = x.index_select(axis, reflected_indices(size, before + size + after, x.device, before))
    return x


def crop(x: Tensor, height: int, width: int, start: int = 0) -> Tensor:
    """`height` x `width` pixels of `(..., H, W)` from row and column `start` on; of symbolic sides a copy, free of strides."""
    if not (is_symbolic(height) or is_symbolic(width)):
        return x[..., start : start + height, start : start + width]
    for axis, length in ((-2, height), (-1, width)):
        x = x.index_select(axis, torch.arange(length, device=x.device) + start)
    return x


def extend(x: Tensor, border: int) -> Tensor:
    """`(..., H, W)` with so many reflected pixels on every side, of a picture of any size."""
    if not border:
        return x
    for axis in (-2, -1):
        size = x.shape[axis]
        x = x.index_select(axis, reflected_indices(size, size + 2 * border, x.device, border))
    return x


def cut(x: Tensor, border: int) -> Tensor:
    """What `extend` was given."""
    return crop(x, x.shape[-2] - 2 * border, x.shape[-1] - 2 * border, border) if border else x
