"""T-OAR on large pictures: by tiles that use the whole picture's numbers, and so agree with it but for rounding."""

from collections.abc import Callable

from torch import Tensor

from fusion.models.gathered import Gathered
from fusion.models.tiled import Reach, side_of, tiles_of


def fuse_tiles(
    fuse: Callable[[Tensor, Tensor, Gathered], Tensor], a: Tensor, b: Tensor, margin: int, pixels: int
) -> Tensor:
    """Fuse one pair.

    Args:
        fuse: fuses pieces `(1, 3, h, w)`, with the numbers of the whole.
        a, b: `(1, 3, H, W)`.
        margin: see `BaseFusionNetwork.margin`.
        pixels: of a tile.

    Returns:
        `(1, 3, H, W)`.
    """
    reach = Reach(margin)
    gathered, fused = Gathered(), a.new_empty(a.shape)
    tiles = tiles_of(a, side_of(pixels, reach), reach)
    gathered.run(tiles, lambda tile: tile.paste(fuse(tile.cut(a), tile.cut(b), gathered).float(), fused))
    return fused
