"""Pyramids of pictures of any size: whole where memory allows, else by tiles that agree with the whole."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fusion.layers.color import split_luma
from fusion.models.inputs import reflect_to_multiple
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.pyramid import PyramidNetwork, Whole
from fusion.models.tiled import Reach, Tile, run_tiled, tiles_of

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
    prompts: Callable[[Sequence[Tensor], Whole], Tensor],
    whole: int = WHOLE,
    tile: int = TILE,
    margin: int | None = None,
) -> FusionOutput:
    """Fuse a pair of any size.

    Sides are reflected up to the grid of the coarsest tokens, so that tiles cut on that grid see the same pyramid as the whole.

    Args:
        run: the model; takes the pair and, with tiles, `whole`.
        prompts: of the base of a tile: takes lumas and what is known of the whole, see `fusion.models.tcmoa.many.base_prompts`.
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
    output = run(a, b) if at_once else _tiled(run, a, b, network, prompts, tile, margin)
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
    run: Callable[..., FusionOutput],
    a: Tensor,
    b: Tensor,
    network: PyramidNetwork,
    prompts: Callable[[Sequence[Tensor], Whole], Tensor],
    tile: int,
    margin: int | None,
) -> FusionOutput:
    tiles = tiles_of(a, tile, Reach(network.reach if margin is None else margin, network.tile_grid))
    made: list[Tensor] = []
    output = FusionOutput(a)
    for first, second in zip(a.split(1), b.split(1), strict=True):
        whole = whole_of([first, second], network, tiles, prompts)

        def piece(x: Tensor, y: Tensor, whole: Whole = whole) -> Tensor:
            nonlocal output
            output = run(x, y, whole=whole)
            return output.fused

        made.append(run_tiled(piece, first, second, tiles))
    output.fused = torch.cat(made)
    return output


def whole_of(
    sources: Sequence[Tensor],
    network: PyramidNetwork,
    tiles: list[Tile],
    prompts: Callable[[Sequence[Tensor], Whole], Tensor],
) -> Whole:
    """How the whole looks, and where the base makes a common choice its mean prompts, tile by tile.

    Args:
        sources: `(1, 3, H, W)` each, sides on the network's grid.
        network: which fuses them.
        tiles: of the pictures.
        prompts: of the base of a tile, `(1, n, h, w)`, from the lumas and what is known of the whole.
    """
    lumas = [split_luma(source)[0] for source in sources]
    whole = Whole.of(torch.cat(lumas, dim=1))
    if not network.agrees:
        return whole
    level = network.backbone.levels
    total = torch.zeros_like(whole.means)
    for tile in tiles:
        seen = tile.at(level).core(prompts([tile.cut(luma) for luma in lumas], whole))
        total = total + seen.sum((-2, -1), keepdim=True)
    height, width = lumas[0].shape[-2:]
    return whole._replace(prompts=total / (height * width / 4**level))
