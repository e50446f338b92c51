"""MoE-Fusion on large pictures: gates that look at the whole are decided first, then tiles are fused with them.

A gate sees features on a fixed grid, which is linear in them: what it sees of a picture is the sum of what it sees of its tiles. So
tiles go through the encoders once for the local gates, once more for the decoder's gate, and a third time to be fused; they agree
with the whole but for rounding.
"""

import torch
from torch import Tensor

from fusion.models.moe_fusion.image_routing import ImageRouter
from fusion.models.moe_fusion.local import Gates, MixtureOfLocalExperts
from fusion.models.moe_fusion.network import MoEFusionNetwork
from fusion.models.tiled import Reach, Tile, run_tiled, side_of, tiles_of

REACH = Reach(12)
"""Four convolutions of an encoder, two of a local expert, four of a decoder."""


class View:
    """What a gate sees of a picture, added up tile by tile.

    Args:
        router: the gate.
        height, width: of the picture.
    """

    def __init__(self, router: ImageRouter, height: int, width: int) -> None:
        self.router = router
        self.rows, self.columns = (
            grid_weights(length, count, router.resample)
            for length, count in zip((height, width), router.grid, strict=True)
        )
        self.seen: Tensor | None = None

    def add(self, features: Tensor, tile: Tile) -> None:
        """Count the inside of a tile in, `(1, C, h, w)`."""
        core = tile.core(features).float()
        rows, columns = (
            matrix[:, span[2] : span[3]].to(core.device)
            for matrix, span in zip((self.rows, self.columns), tile, strict=True)
        )
        some_rows, some_columns = (matrix.any(1).nonzero().squeeze(1) for matrix in (rows, columns))
        part = rows[some_rows] @ core @ columns[some_columns].T
        if self.seen is None:
            self.seen = core.new_zeros(*core.shape[:2], *self.router.grid)
        self.seen[..., some_rows[:, None], some_columns] += part

    def gates(self) -> list[float]:
        """What the router decides, N numbers."""
        assert self.seen is not None
        with torch.autocast(self.seen.device.type, enabled=False):
            routing = self.router.router(self.seen.flatten(1))
        return routing.weights[0].tolist()


def grid_weights(length: int, count: int, resample: str) -> Tensor:
    """Share of every pixel of a side in every point of a gate's grid, `(count, length)`, as `ImageRouter.view` resamples."""
    index = torch.arange(count)
    if resample == "area":
        place = torch.arange(length)
        inside = (place >= (index * length // count)[:, None]) & (place < -(-((index + 1) * length) // count)[:, None])
        return inside.float() / inside.sum(1, keepdim=True)
    place = index.double() * (length - 1) / max(count - 1, 1)
    low = place.floor().long().clamp(max=length - 1)
    share = (place - low).float()
    weights = torch.zeros(count, length)
    weights[index, low] += 1 - share
    weights[index, (low + 1).clamp(max=length - 1)] += share
    return weights


def decide_gates(
    network: MoEFusionNetwork, a: Tensor, b: Tensor, attention: Tensor, tiles: list[Tile], gates: Gates
) -> Gates:
    """Gates of every site for one pair, `(1, 1, H, W)` luma and attention; those that are given stay."""
    known = dict(gates)
    local = network.local
    if isinstance(local, MixtureOfLocalExperts):
        views = {s: View(getattr(local, s).gate, *a.shape[-2:]) for s in local.sites if s not in known}
        for tile in tiles if views else ():
            last = [encode(tile.cut(x))[0] for encode, x in ((network.encoder_a, a), (network.encoder_b, b))]
            for site, view in views.items():
                share = tile.cut(attention) if site == "foreground" else 1 - tile.cut(attention)
                view.add(torch.cat([part * share for part in last], dim=1), tile)
        known |= {site: view.gates() for site, view in views.items()}
    if "global" in network.sites and "global" not in known:
        view = View(network.decoder.gate, *a.shape[-2:])  # type: ignore[arg-type]
        for tile in tiles:
            view.add(network.features(tile.cut(a), tile.cut(b), tile.cut(attention), known)[0], tile)
        known["global"] = view.gates()
    return known


def fuse_tiles(network: MoEFusionNetwork, a: Tensor, b: Tensor, attention: Tensor, pixels: int, gates: Gates) -> Tensor:
    """Fused luma `(1, 1, H, W)` of one pair, not bounded.

    Args:
        network: the network.
        a, b: luma `(1, 1, H, W)` in [0, 1].
        attention: `(1, 1, H, W)`.
        pixels: of a tile.
        gates: fixed gates by site.
    """
    tiles = tiles_of(a, side_of(pixels, REACH), REACH)
    decided = decide_gates(network, a, b, attention, tiles, gates)

    def run(x: Tensor, rest: Tensor) -> Tensor:
        return network(x, rest[:, :1], rest[:, 1:], decided).features.float()

    return run_tiled(run, a, torch.cat([b, attention], dim=1), tiles)
