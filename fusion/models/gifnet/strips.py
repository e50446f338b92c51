"""Strips of rows of a picture, channels last, with what lies around them reflected at its border."""

import torch
import torch.nn.functional as F
from torch import Tensor


class Place:
    """Where a strip of attention windows lies in a picture.

    Args:
        picture: `(B, H, W, C)`.
        top, bottom: rows of the strip in the picture; the first may be above its border.
        shift: of the window grid.
        window: side of the windows.
    """

    margin = 2  # of the depthwise 5x5 convolution

    def __init__(self, picture: Tensor, top: int, bottom: int, shift: int, window: int) -> None:
        height, width = picture.shape[1:3]
        self.window, self.top, self.left = window, top, -shift
        self.bottom = top + -(-(bottom - top) // window) * window
        self.right = -shift + -(-(width + shift) // window) * window
        self.rows = slice(max(top, 0), min(self.bottom, height))
        self.width = width

    def inside(self, x: Tensor) -> Tensor:
        """Pixels of the picture in the strip."""
        return x[:, self.rows]

    def around(self, x: Tensor) -> Tensor:
        """All windows of the strip and what the convolution sees around them, reflected at the border; a copy."""
        m = self.margin
        return region(x, self.top - m, self.bottom + m, self.left - m, self.right + m)

    def windows(self, x: Tensor, heads: int) -> Tensor:
        """`(B, h, w, heads * c)` around the strip to `(windows, heads, window^2, c)`."""
        m, side = self.margin, self.window
        x = x[:, m:-m, m:-m]
        batch, high, wide, channels = x.shape
        x = x.reshape(batch, high // side, side, wide // side, side, heads, channels // heads)
        return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, heads, side**2, channels // heads)

    def attend(self, queries: Tensor, keys_values: Tensor, bias: Tensor, beside: Tensor) -> Tensor:
        """Windowed attention plus `beside`, both cut to the picture: `(B, h, w, C)`."""
        batch, high, wide, dim = beside.shape
        side, heads = self.window, queries.shape[1]
        keys, values = (self.windows(part, heads) for part in keys_values.split(dim, -1))
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        attended = attended.view(batch, high // side, wide // side, heads, side, side, dim // heads)
        attended = attended.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, high, wide, dim)
        rows = slice(self.rows.start - self.top, self.rows.stop - self.top)
        columns = slice(-self.left, -self.left + self.width)
        return attended[:, rows, columns] + beside[:, rows, columns]


def gathered_region(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """`region` by indices."""
    rows, columns = (
        (length - 1) - ((length - 1) - torch.arange(first, last, device=x.device).abs()).abs()
        for first, last, length in ((top, bottom, x.shape[1]), (left, right, x.shape[2]))
    )
    return x[:, rows[:, None], columns]


def region(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Copy rows `top` to `bottom` and columns `left` to `right` of `(B, H, W, C)`, reflecting it where they lie outside.

    In pieces on a CPU, which copies whole rows; as one gather elsewhere, where every piece would be a launch of its own.
    """
    if x.device.type != "cpu":
        return gathered_region(x, top, bottom, left, right)
    height, width = x.shape[1:3]
    out = x.new_empty(len(x), bottom - top, right - left, x.shape[-1])

    def fill(rows: slice, source: Tensor) -> None:
        inner = slice(max(left, 0), min(right, width))
        out[:, rows, inner.start - left : inner.stop - left] = source[:, :, inner]
        for column in (*range(left, 0), *range(width, right)):
            out[:, rows, column - left] = source[:, :, -column if column < 0 else 2 * (width - 1) - column]

    inner = slice(max(top, 0), min(bottom, height))
    fill(slice(inner.start - top, inner.stop - top), x[:, inner])
    for row in (*range(top, 0), *range(height, bottom)):
        source = -row if row < 0 else 2 * (height - 1) - row
        fill(slice(row - top, row - top + 1), x[:, source : source + 1])
    return out
