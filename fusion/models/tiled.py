"""Pictures larger than memory, piece by piece: tiles with a margin as wide as a network can see agree with the whole."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

Span = tuple[int, int, int, int]
"""Bounds along one side, with the margin and without: `(start, end, inner start, inner end)`."""


class Reach(NamedTuple):
    """How far a network looks, for tiles.

    Attributes:
        margin: pixels beyond a tile's edge that what lies within can see.
        grid: tiles begin at multiples of this many pixels.
    """

    margin: int = 0
    grid: int = 1


class Tile(NamedTuple):
    """A piece of a picture: rows and columns, with the margin and without."""

    rows: Span
    columns: Span

    def at(self, level: int) -> "Tile":
        """The same piece of a picture with sides halved so many times; all bounds are multiples of 2^level."""
        rows, columns = (tuple(x // 2**level for x in span) for span in self)
        return Tile(rows, columns)  # type: ignore[arg-type]

    def cut(self, image: Tensor) -> Tensor:
        """The tile with its margin."""
        return image[..., self.rows[0] : self.rows[1], self.columns[0] : self.columns[1]]

    def core(self, made: Tensor) -> Tensor:
        """What was made of the tile, without the margin."""
        (top, _, t, b), (left, _, le, r) = self
        return made[..., t - top : b - top, le - left : r - left]

    def paste(self, made: Tensor, whole: Tensor) -> None:
        """Put what was made of the tile where it belongs."""
        whole[..., self.rows[2] : self.rows[3], self.columns[2] : self.columns[3]] = self.core(made)


def spans(length: int, tile: int, margin: int, grid: int) -> Iterator[Span]:
    """Tiles along one side: they begin on the grid, and so do their margins."""
    step = max(tile // grid, 1) * grid
    margin = -(-margin // grid) * grid
    for start in range(0, length, step):
        end = min(start + step, length)
        yield max(start - margin, 0), min(end + margin, length), start, end


def tiles_of(image: Tensor, tile: int, reach: Reach) -> list[Tile]:
    """Tiles that cover a picture `(..., H, W)`."""
    height, width = image.shape[-2:]
    rows, columns = (list(spans(length, tile, reach.margin, reach.grid)) for length in (height, width))
    return [Tile(row, column) for row in rows for column in columns]


def side_of(pixels: int, reach: Reach) -> int:
    """Side of a tile without its margin, so that with it it has about so many pixels."""
    margin = -(-reach.margin // reach.grid) * reach.grid
    side = math.isqrt(max(pixels, 1)) - 2 * margin
    return max(side // reach.grid, -(-32 // reach.grid)) * reach.grid


def run_tiled(run: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, tiles: list[Tile]) -> Tensor:
    """Fuse tile by tile.

    Args:
        run: fuses `(B, C, h, w)` pieces.
        a, b: `(B, C, H, W)`.
        tiles: see `tiles_of`.

    Returns:
        `(B, C', H, W)`.
    """
    whole: Tensor | None = None
    for tile in tiles:
        made = run(tile.cut(a), tile.cut(b))
        if whole is None:
            whole = made.new_empty(*made.shape[:2], *a.shape[-2:])
        tile.paste(made, whole)
    assert whole is not None
    return whole


def run_blended(
    run: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, side: int, overlap: int, grid: int = 1
) -> Tensor:
    """Fuse overlapping tiles and blend them linearly where they overlap, for networks that look at all there is.

    Args:
        run: fuses `(B, C, h, w)` pieces.
        a, b: `(B, C, H, W)`.
        side: of a tile, its overlap included.
        overlap: pixels that neighbours share.
        grid: tiles begin at multiples of this, but for the last ones, which lie flush with the border.

    Returns:
        `(B, C', H, W)`.
    """
    height, width = a.shape[-2:]
    total: Tensor | None = None
    weights = a.new_zeros(height, width)
    for top in _starts(height, side, overlap, grid):
        for left in _starts(width, side, overlap, grid):
            bottom, right = min(top + side, height), min(left + side, width)
            made = run(a[..., top:bottom, left:right], b[..., top:bottom, left:right]).float()
            if total is None:
                total = made.new_zeros(*made.shape[:2], height, width)
            rows, columns = (
                _ramp(start, end, length, overlap).to(a.device)
                for start, end, length in ((top, bottom, height), (left, right, width))
            )
            weight = rows[:, None] * columns
            total[..., top:bottom, left:right] += made * weight
            weights[top:bottom, left:right] += weight
    assert total is not None
    return total / weights


def _starts(length: int, side: int, overlap: int, grid: int) -> list[int]:
    step = max((side - overlap) // grid, 1) * grid
    return list(dict.fromkeys(min(start, max(length - side, 0)) for start in range(0, max(length - overlap, 1), step)))


def _ramp(start: int, end: int, length: int, overlap: int) -> Tensor:
    """Weights of a tile along one side: rising where a neighbour overlaps, one at the border of the picture."""
    place = torch.arange(end - start, dtype=torch.float32)
    weight = torch.ones_like(place)
    if start > 0:
        weight = weight.minimum((place + 1) / (overlap + 1))
    if end < length:
        weight = weight.minimum((end - start - place) / (overlap + 1))
    return weight
