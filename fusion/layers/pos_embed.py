"""Fixed sine-cosine position embeddings of MAE and their resizing to other token grids."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def sincos_pos_embed_2d(dim: int, grid: int, class_token: bool = True) -> Tensor:
    """MAE's fixed position embedding of a square grid (He et al. 2022; computed in float64 as the released code does).

    The first half of the channels encodes the column, the second half the row; each half is [sin, cos].

    Args:
        dim: channels, a multiple of 4.
        grid: tokens per side.
        class_token: whether a row of zeros stands first, for the class token.

    Returns:
        `(1, grid * grid (+ 1), dim)` float32.
    """
    if dim % 4:
        raise ValueError(f"a 2-D sine-cosine embedding needs channels in multiples of 4, got {dim}")
    omega = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    halves = []
    for position in (column, row):
        angle = position.reshape(-1, 1).double() * omega
        halves += [angle.sin(), angle.cos()]
    table = torch.cat(halves, dim=1)
    if class_token:
        table = torch.cat([table.new_zeros(1, dim), table])
    return table.float().unsqueeze(0)


def resize_pos_embed(pos_embed: Tensor, size: Sequence[int], transposed: bool = False) -> Tensor:
    """Bilinear resize of a square position embedding to a token grid.

    Args:
        pos_embed: `(1, n * n + 1, C)`; the first row (class token) is left out.
        size: `(h, w)` tokens.
        transposed: the released TC-MoA code asks for `(w, h)` and then reads the result as `(h, w)`, which scrambles
            the positions of every non-square input. True reproduces that.

    Returns:
        `(1, h, w, C)`.
    """
    table = pos_embed[:, 1:]
    side = round(table.shape[1] ** 0.5)
    grid = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    h, w = size
    grid = F.interpolate(grid, size=(w, h) if transposed else (h, w), mode="bilinear", align_corners=False)
    return grid.permute(0, 2, 3, 1).reshape(1, h, w, -1)
