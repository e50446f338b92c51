"""Numbers that a network takes from a whole picture, gathered tile by tile, so that every tile uses those of the whole."""

from collections.abc import Callable

import torch
from torch import Tensor

from fusion.models.tiled import Tile


class Reached(Exception):
    """A tile has come to a number that is being gathered; there is nothing more to compute in this pass."""


class Gathered:
    """Means and maxima per channel of features, by name: of what is there, or while tiles are fused of the whole picture.

    A pass over all tiles gathers the first number that is not known yet, and ends there in each of them; so a network with n such
    numbers takes n short passes and a full one. Features have the size of the picture.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Tensor, Tensor]] = {}
        self._name: str | None = None
        self._sum: Tensor | None = None
        self._most: Tensor | None = None
        self._count = 0
        self.tile: Tile | None = None

    def __call__(self, name: str, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and maximum over the picture of `(B, C, h, w)`, each `(B, C)`.

        Raises:
            Reached: this one is being gathered.
        """
        if self.tile is None:
            return features.mean((2, 3)), features.amax((2, 3))
        if name in self._known:
            return self._known[name]
        core = self.tile.core(features)
        total, most = core.double().sum((2, 3)), core.amax((2, 3))
        self._sum = total if self._sum is None else self._sum + total
        self._most = most if self._most is None else torch.maximum(self._most, most)
        self._name, self._count = name, self._count + core.shape[2] * core.shape[3]
        raise Reached

    def run(self, tiles: list[Tile], fuse: Callable[[Tile], None]) -> None:
        """Pass over all tiles until every number is known, and once more to fuse.

        Args:
            tiles: see `fusion.models.tiled`.
            fuse: computes a tile and keeps it; stopped by `Reached` in the passes that gather.
        """
        while True:
            for self.tile in tiles:
                try:
                    fuse(self.tile)
                except Reached:
                    continue
            if self._name is None:
                return
            assert self._sum is not None and self._most is not None
            self._known[self._name] = (self._sum / self._count).to(self._most.dtype), self._most
            self._name, self._sum, self._most, self._count = None, None, None, 0
