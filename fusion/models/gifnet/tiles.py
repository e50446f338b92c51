"""Luma fusion of pictures of any size in bounded memory.

The normalisation looks at the whole picture. Tiles therefore go over it three times: to measure what enters the first
block, then the second, then to fuse with those statistics; about twice the work of fusing at once. Each tile is
computed with a margin as wide as anything in it can see, so that tiles agree with the whole but for rounding.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.models.gifnet.inference import Core, FastGIFNet
from fusion.models.gifnet.moments import Moments


def reach(window: int) -> int:
    """Pixels beyond an edge on the window grid that what lies within can see; 20 with windows of 8."""
    seen = 5  # decoder 4, un-embedding 1
    for shift in (window // 2, 0):  # second block, first block: whole windows, or the depthwise convolution beside them
        seen = max(-(-(seen - shift) // window) * window + shift, seen + 2)
    return seen + 4  # embedding 1, encoder 3


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
    """Tiles that cover a picture; their corners lie on the window grid, and on that of 4 pixels that pictures are padded to."""
    grid = math.lcm(window, 4)
    margin = -(-reach(window) // grid) * grid
    step = max(side // grid, 1) * grid

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
