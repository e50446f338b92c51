"""Pyramids of pictures of any size: whole where memory allows, else by tiles that agree with the whole."""

from collections.abc import Callable

import torch
from torch import Tensor

from fusion.layers.color import split_luma
from fusion.models.inputs import reflect_to_multiple
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.pyramid import PyramidNetwork
from fusion.models.tiled import Reach, run_tiled, tiles_of

WHOLE = 6_000_000
"""Pixels that are fused at once."""
TILE = 1536
"""Side of a tile in pixels, without its margin."""
LARGEST = 2048
"""Side of a tile in use; larger ones save little work."""
SEEN = 256
"""Margin in use: what lies further away changes no pixel by more than rounding (6e-5 of 255 with five levels and trained sites), at
a fraction of the work that a margin of all that could be seen takes."""


def fuse_pyramid(
    run: Callable[..., FusionOutput],
    a: Tensor,
    b: Tensor,
    network: PyramidNetwork,
    whole: int = WHOLE,
    tile: int = TILE,
    margin: int | None = None,
) -> FusionOutput:
    """Fuse a pair of any size.

    Sides are reflected up to the grid of the coarsest tokens, so that tiles cut on that grid see the same pyramid as the whole.

    Args:
        run: the model; takes `means` of the whole pictures with tiles.
        a, b: `(B, 3, H, W)` in [0, 1].
        network: of `run`.
        whole: pixels that are fused at once; larger pictures go by tiles, one pair at a time.
        tile: side of the tiles in pixels, without margin; a multiple of the network's grid.
        margin: of the tiles; None: as far as the network sees.

    Returns:
        Output of the input's size. Of tiled pictures the prompts and routings are those of the last tile.
    """
    height, width = a.shape[-2:]
    a, b = (reflect_to_multiple(x, network.tile_grid) for x in (a, b))
    at_once = torch.compiler.is_exporting() or a.shape[-2] * a.shape[-1] <= whole
    output = run(a, b) if at_once else _tiled(run, a, b, network, tile, margin)
    output.fused = output.fused[..., :height, :width]
    if not torch.compiler.is_exporting():  # whose graph gives the picture alone
        output.prompts = without_border(output, height, width)
    return output


def without_border(output: FusionOutput, height: int, width: int) -> list[Tensor]:
    """Prompts of a reflected picture, cut to what belongs to its own size."""
    levels = [int(site.rsplit(".", 1)[-1]) for site in output.sites]
    return [
        prompt[..., : -(-height // 2**level), : -(-width // 2**level)]
        for prompt, level in zip(output.prompts, levels, strict=True)
    ]


def _tiled(
    run: Callable[..., FusionOutput], a: Tensor, b: Tensor, network: PyramidNetwork, tile: int, margin: int | None
) -> FusionOutput:
    means = torch.cat([split_luma(x)[0].mean((-2, -1), keepdim=True) for x in (a, b)], dim=1)
    tiles = tiles_of(a, tile, Reach(network.reach if margin is None else margin, network.tile_grid))
    made: list[Tensor] = []
    output = FusionOutput(a)

    def piece(x: Tensor, y: Tensor) -> Tensor:
        nonlocal output
        output = run(x, y, means=means[len(made) : len(made) + 1])
        return output.fused

    for first, second in zip(a.split(1), b.split(1), strict=True):
        made.append(run_tiled(piece, first, second, tiles))
    output.fused = torch.cat(made)
    return output
