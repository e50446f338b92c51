"""Luma fusion of pictures of any size in bounded memory.

The normalisation looks at the whole picture. Tiles therefore go over it three times: to measure what enters the first
block, then the second, then to fuse with those statistics; about twice the work of fusing at once. Each tile is
computed with a margin as wide as anything in it can see, so that tiles agree with the whole but for rounding.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.models.gifnet.inference import Core, FastGIFNet
from fusion.models.gifnet.moments import Moments

REACH = 20
"""Pixels that a fused pixel sees on either side with windows of 8: decoder 5, second block 2 + 7 + first 2 + embedding
and encoder 4; windows are whole, so that it is less than three of them."""


class Tile(NamedTuple):
    """Half-open bounds of a tile, with its margin and without, in the picture."""

    outer: tuple[int, int, int, int]
    inner: tuple[int, int, int, int]

    def cut(self, x: Tensor) -> Tensor:
        """The tile with its margin."""
        top, bottom, left, right = self.outer
        return x[..., top:bottom, left:right]

    def core(self) -> Core:
        """The inner bounds within the tile, on the padded sides open to the end."""
        (top, bottom, left, right), (t, b, le, r) = self.outer, self.inner
        far = 1 << 31
        return Core(t - top, b - top if b < bottom else far, le - left, r - left if r < right else far)


def plan(height: int, width: int, side: int, window: int) -> Iterator[Tile]:
    """Tiles that cover a picture; their corners lie on the window grid."""
    margin = 3 * window
    step = max(side // window, 1) * window

    def spans(length: int) -> list[tuple[int, int, int, int]]:
        starts = list(range(0, length, step))
        if len(starts) > 1 and length - starts[-1] < window:  # too narrow to reflect
            starts.pop()
        ends = [*starts[1:], length]
        return [(max(s - margin, 0), min(e + margin, length), s, e) for s, e in zip(starts, ends, strict=True)]

    for top, bottom, t, b in spans(height):
        for left, right, le, r in spans(width):
            yield Tile((top, bottom, left, right), (t, b, le, r))


def fuse_luma(network: FastGIFNet, pair: Tensor, whole_pixels: int, tile: int) -> Tensor:
    """Fuse pairs of any size.

    Args:
        network: the network.
        pair: `(B, 2, H, W)` luma in [0, 1], sides of 5 pixels and more.
        whole_pixels: pixels of a batch that are fused at once; larger batches go one by one, larger pictures by tiles.
        tile: side of the tiles in pixels, without margin.

    Returns:
        `(B, 1, H, W)` in (0, 1).
    """
    batch, _, height, width = pair.shape
    if batch * height * width <= whole_pixels:
        return network(pair)
    if batch > 1:
        return torch.cat([fuse_luma(network, one, whole_pixels, tile) for one in pair.split(1)])
    tiles = list(plan(height, width, tile, network.window))
    known: list[list[Moments]] = []
    for block, count in enumerate((network.count, 1)):
        moments = [Moments(batch, pair.device) for _ in range(count)]
        for part in tiles:
            network.measure(part.cut(pair), block, known, moments, part.core())
        known.append(moments)
    fused = torch.empty(batch, 1, height, width, device=pair.device)
    for part in tiles:
        (top, _, left, _), (t, b, le, r) = part.outer, part.inner
        fused[..., t:b, le:r] = network(part.cut(pair), known)[..., t - top : b - top, le - left : r - left]
    return fused
