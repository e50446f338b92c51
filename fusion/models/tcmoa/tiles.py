"""Pyramids of pictures of any size: whole where memory allows, else by tiles that agree with the whole."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fusion.layers.color import split_luma
from fusion.models.inputs import reflect_to_multiple
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.pyramid import PyramidNetwork

WHOLE = 6_000_000
"""Pixels that are fused at once."""
TILE = 1536
"""Side of a tile in pixels, without its margin."""
Span = tuple[int, int, int, int]


def fuse_pyramid(
    run: Callable[..., FusionOutput],
    a: Tensor,
    b: Tensor,
    network: PyramidNetwork,
    whole: int = WHOLE,
    tile: int = TILE,
) -> FusionOutput:
    """Fuse a pair of any size.

    Sides are reflected up to the grid of the coarsest tokens, so that tiles cut on that grid see the same pyramid as the whole.

    Args:
        run: the model; takes `means` of the whole pictures with tiles.
        a, b: `(B, 3, H, W)` in [0, 1].
        network: of `run`.
        whole: pixels that are fused at once; larger pictures go by tiles, one pair at a time.
        tile: side of the tiles in pixels, without margin; a multiple of the network's grid.

    Returns:
        Output of the input's size. Of tiled pictures the prompts and routings are those of the last tile.
    """
    height, width = a.shape[-2:]
    a, b = (reflect_to_multiple(x, network.tile_grid) for x in (a, b))
    at_once = torch.compiler.is_exporting() or a.shape[-2] * a.shape[-1] <= whole
    output = run(a, b) if at_once else _tiled(run, a, b, network, tile)
    output.fused = output.fused[..., :height, :width]
    if torch.compiler.is_exporting():  # the graph gives the picture alone
        return output
    levels = [int(site.rsplit(".", 1)[-1]) for site in output.sites]
    output.prompts = [  # without the reflected border
        prompt[..., : -(-height // 2**level), : -(-width // 2**level)]
        for prompt, level in zip(output.prompts, levels, strict=True)
    ]
    return output


def _tiled(run: Callable[..., FusionOutput], a: Tensor, b: Tensor, network: PyramidNetwork, tile: int) -> FusionOutput:
    means = torch.cat([split_luma(x)[0].mean((-2, -1), keepdim=True) for x in (a, b)], dim=1)
    fused = torch.empty_like(a)
    output = None
    for index in range(len(a)):
        for top, bottom, t, b_ in spans(a.shape[-2], tile, network.reach, network.tile_grid):
            for left, right, le, r in spans(a.shape[-1], tile, network.reach, network.tile_grid):
                window = (slice(index, index + 1), slice(None), slice(top, bottom), slice(left, right))
                output = run(a[window], b[window], means=means[index : index + 1])
                fused[index, :, t:b_, le:r] = output.fused[0, :, t - top : b_ - top, le - left : r - left]
    assert output is not None
    output.fused = fused
    return output


def spans(length: int, tile: int, margin: int, grid: int) -> Iterator[Span]:
    """Bounds of tiles along one side with their margin, and without: `(start, end, inner start, inner end)`."""
    step = max(tile // grid, 1) * grid
    margin = -(-margin // grid) * grid
    for start in range(0, length, step):
        end = min(start + step, length)
        yield max(start - margin, 0), min(end + margin, length), start, end
