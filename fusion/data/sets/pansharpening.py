"""Multispectral with panchromatic images, QuickBird style."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.data.dataset import PairDataset
from fusion.data.files.image import resize
from fusion.data.files.pairs import Pair, find_folder, pair_folders
from fusion.data.files.ranges import Range, check_range, scale_of
from fusion.data.files.reading import read_raster
from fusion.data.sample import Sample
from fusion.errors import ConfigError, DataError


@dataclass(frozen=True)
class BandPair(Pair):
    """A pair whose `b` is one band, counted from 0, of a file that may hold several."""

    band: int = 0


class PanSharpening(PairDataset):
    """Panchromatic images with the bands of multispectral ones: one pair per band, as GIFNet fuses them.

    `a` is the panchromatic image, `b` one band, both grey; names are `1_band1`. Multispectral images of lower resolution
    need `match_size=a`, which enlarges them. Everything becomes 8 bit, as elsewhere here: for viewing and for fusion
    metrics, not for radiometry.

    Args:
        root: folder of the data set.
        bands: numbers of the bands, counted from 1.
        range: black and white, see `fusion.data.files.ranges`: [0, 2047] for the 11 bits of QuickBird; "auto" is the largest
            range that the file could hold.
        peak: the same as `range=[0, peak]`.
        task: what the model takes them for.
        options: those of `PairDataset`.

    Raises:
        ConfigError: no bands, or a number below 1.
    """

    task = "vif"
    page = "QuickBird sample scenes; any multispectral images with a panchromatic one"
    layout = """\
QuickBird/
  PAN/1.tif   MS/1.tif                     (one file with all bands), or
  vis/1.tif   1/1.tif 2/1.tif 3/1.tif 4/1.tif   (a folder per band, as GIFNet has it)"""

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        bands: Sequence[int] = (1, 2, 3, 4),
        range: Range = "auto",
        peak: float | None = None,
        task: str = "vif",
        **options: Any,
    ) -> None:
        super().__init__(root, split, **options)
        if not bands or min(bands) < 1:
            raise ConfigError(f"{self.name}: bands={list(bands)}, expected numbers from 1.")
        if peak is not None and peak <= 0:
            raise ConfigError(f"{self.name}: peak={peak}, expected more than 0.")
        self.range = check_range(range if peak is None else [0.0, float(peak)], "range")
        self.bands, self.task = tuple(bands), task

    def find_pairs(self) -> list[Pair]:
        """Same file name in the folders; every band of it."""
        pan, multi = find_folder(self.root, "PAN", "vis"), find_folder(self.root, "MS")
        options: dict[str, Any] = {"allow_unpaired": self.allow_unpaired, "layout": self.layout}
        per_band = {
            band: pair_folders(pan, multi if multi.is_dir() else self.root / str(band), **options)
            for band in self.bands
        }
        names = [pair.name for pair in per_band[self.bands[0]]]
        by_name = {(band, pair.name): pair for band, pairs in per_band.items() for pair in pairs}
        return [
            BandPair(f"{name}_band{band}", pair.a, pair.b, band=band - 1 if multi.is_dir() else 0)
            for name in names
            for band in self.bands
            if (pair := by_name.get((band, name))) is not None
        ]

    def cache_key(self) -> str:
        """The range changes the values."""
        return f"{super().cache_key()} {self.range}"

    def _read(self, pair: Pair) -> Sample:
        pan, band = self._plane(pair.a, 0), self._plane(pair.b, pair.band if isinstance(pair, BandPair) else 0)
        if pan.shape != band.shape:
            if self.match_size is None:
                sizes = " and ".join(f"{p} is {x.shape[2]}x{x.shape[1]}" for p, x in ((pair.a, pan), (pair.b, band)))
                raise DataError(
                    f"Images of one pair must have the same size: {sizes}; set match_size=a to enlarge the bands."
                )
            if self.match_size == "a":
                band = resize(band, pan.shape[-2:])
            else:
                pan = resize(pan, band.shape[-2:])
        gray = {"a_is_gray": True, "b_is_gray": True}
        return {"a": pan.expand(3, -1, -1), "b": band.expand(3, -1, -1), **self._described(pair), **gray}

    def _plane(self, path: Path, band: int) -> Tensor:
        """One band as `(1, H, W)` uint8."""
        raster = read_raster(path, inks_as_bands=True)
        count = raster.pages if raster.is_gray and raster.pages > 1 else len(raster.planes)
        if band >= count:
            raise DataError(f"{path}: has {count} bands, band {band + 1} was asked for; change `bands`.")
        plane = read_raster(path, band) if raster.is_gray and raster.pages > 1 else raster.band(band)
        plane = replace(plane, valid=None)
        scale, _ = scale_of(plane, self.range)
        scaled = np.rint(scale.to_unit(plane.planes).astype(np.float64) * 255)
        return torch.from_numpy(scaled.astype(np.uint8))
