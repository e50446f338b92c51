"""From picture files to what a network takes, and from what it makes to a result with the files' depth and metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.data.files import metadata as meta
from fusion.data.files.profiles import convert, same_profile
from fusion.data.files.ranges import Range, Scale, scale_of
from fusion.data.files.raster import DEPTHS, Depth, Metadata, Raster
from fusion.data.files.writing import WHITE, to_depth
from fusion.data.transforms.fit import crop_raster
from fusion.data.transforms.grid import Geometry, inner_rectangle, on_one_grid
from fusion.errors import ConfigError, DataError

BANDS = ("auto", "each", "rgb")
DEPTH_CHOICES = ("keep", "8", "16", "32", "float")


@dataclass
class Sources:
    """Two or more pictures of one scene, ready to be fused, and what is needed to write the result.

    Attributes:
        images: one tensor per source, `(N, 3, H, W)` float32 in [0, 1]. N is 1, or the number of bands where every band is
            fused by itself; grey planes are repeated to three.
        rasters: the sources as read, on one grid.
        scales: black and white of each source.
        by_band: whether every band is fused by itself.
        labels: names of the sources in messages.
        notes: what the user should know, in order.
        overlap: what becomes of pixels that some source lacks, see `Geometry`.
    """

    images: list[Tensor]
    rasters: list[Raster]
    scales: list[Scale]
    by_band: bool = False
    labels: tuple[str, ...] = ("a", "b")
    notes: list[str] = field(default_factory=list)
    overlap: str = "keep"

    @property
    def all_gray(self) -> bool:
        """Whether every source has one plane."""
        return all(raster.is_gray for raster in self.rasters)

    @property
    def depth(self) -> Depth:
        """Depth of the deepest source."""
        return max((raster.depth for raster in self.rasters), key=DEPTHS.index)

    def finish(self, fused: Tensor, depth: str = "keep", keep_gray: bool = True) -> Raster:
        """A fused image as a picture to be written.

        Values keep the units of the sources where these share black and white (as two files of one sensor do), and fill the
        range of their type otherwise. Pixels for which no source has data stay without data.

        Args:
            fused: `(N, 1|3, H, W)` in [0, 1], N as in `images`.
            depth: "keep" the deepest source's, or "8", "16", "32", "float".
            keep_gray: give a result of one plane where every source has one.

        Raises:
            ConfigError: no such depth.
            DataError: values that are not finite.
        """
        depth = str(depth)
        if depth not in DEPTH_CHOICES:
            raise ConfigError(f"depth={depth}: expected one of {', '.join(DEPTH_CHOICES)}")
        unit = fused.detach().float().cpu()
        if not bool(torch.isfinite(unit).all()):
            raise DataError("the fused image has values that are not finite")
        unit = unit.clamp(0, 1)
        if self.by_band:
            unit = unit.mean(1)
        elif keep_gray and self.all_gray and unit.shape[1] == 3:
            unit = unit[0].mean(0, keepdim=True)
        else:
            unit = unit[0]
        channels = {1: "gray", 3: "rgb"}.get(len(unit), "bands")
        if self.by_band and not any(raster.channels == "rgb" for raster in self.rasters):
            channels = "gray" if len(unit) == 1 else "bands"
        values = self._show_alone(unit.numpy())
        result = self._in_units(values, self.depth if depth == "keep" else depth, channels)  # type: ignore[arg-type]
        result = self._with_gaps(result)
        result = replace(result, alpha=self._alpha(), metadata=self._metadata(channels), path=self.rasters[0].path)
        covered = self._covered()
        if covered is not None and self.overlap == "crop":
            return crop_raster(result, inner_rectangle(covered))
        return result

    def _covered(self) -> np.ndarray | None:
        """Where every source has data; None where that is everywhere."""
        masks = [raster.valid for raster in self.rasters if raster.valid is not None]
        return np.logical_and.reduce(masks) if masks else None

    def _show_alone(self, fused: np.ndarray) -> np.ndarray:
        """Where one source alone has data the result shows it as it is."""
        if self._covered() is None:
            return fused
        masks = [np.ones(fused.shape[1:], bool) if r.valid is None else r.valid for r in self.rasters]
        count = np.sum(masks, axis=0)
        shown = fused.copy()
        for image, mask in zip(self.images, masks, strict=True):
            alone = mask & (count == 1)
            if alone.any():
                own = image[:, 0] if self.by_band else image[0]
                own = own.mean(0, keepdim=True) if len(fused) == 1 else own
                shown[:, alone] = own.numpy()[: len(fused)][:, alone]
        return shown

    def _in_units(self, unit: np.ndarray, depth: Depth, channels: Any) -> Raster:
        scale = self.scales[0]
        shared = all(other == scale for other in self.scales)
        whole = Raster(unit.astype(np.float32), channels, (0.0, 1.0))
        if depth == "float":
            if shared and any(raster.depth == "float" for raster in self.rasters):
                values = scale.from_unit(unit).astype(np.float32)
                return Raster(values, channels, (scale.low, scale.high) if scale.low < scale.high else None)
            return whole
        white = float(WHITE[depth])
        in_units = shared and 0 <= scale.low < scale.high <= white and all(r.depth == depth for r in self.rasters)
        if in_units and (scale.low, scale.high) != (0.0, white):
            values = np.rint(scale.from_unit(unit))
            return Raster(values.astype(to_depth(whole, depth).planes.dtype), channels, (scale.low, scale.high))
        if depth == "8":  # in float32, as ever: results are the same to the bit
            return Raster(np.rint(unit.astype(np.float32) * np.float32(255)).astype(np.uint8), channels, (0.0, 255.0))
        return to_depth(whole, depth)

    def _with_gaps(self, result: Raster) -> Raster:
        """Mark what no source has data for: NaN, or NoData where a source has such a value."""
        masks = [raster.valid for raster in self.rasters]
        if any(mask is None for mask in masks):
            return result
        missing = ~np.logical_or.reduce([mask for mask in masks if mask is not None])
        if not missing.any():
            return result
        planes = result.planes.copy()
        nodata = next((raster.nodata for raster in self.rasters if raster.nodata is not None), None)
        if result.depth == "float":
            planes[:, missing] = np.nan
            nodata = None if nodata is None or not np.isfinite(nodata) else nodata
            if nodata is not None:
                planes[:, missing] = nodata
        else:
            white = WHITE[result.depth]
            nodata = nodata if nodata is not None and float(nodata).is_integer() and 0 <= nodata <= white else 0.0
            planes[:, missing] = int(nodata)
        return replace(result, planes=planes, valid=~missing, nodata=nodata)

    def _alpha(self) -> np.ndarray | None:
        """Alpha of the source that has one; of several the more opaque."""
        first, *others = (raster.alpha for raster in self.rasters)
        found = [alpha for alpha in (first, *(x for x in others if x is not None and x.min() < 1)) if alpha is not None]
        alpha = np.maximum.reduce(found) if found else None
        covered = self._covered()
        if covered is not None and self.overlap == "alpha":
            return covered.astype(np.float32) if alpha is None else np.where(covered, alpha, 0).astype(np.float32)
        return alpha

    def _metadata(self, channels: str) -> Metadata:
        """That of the first source; a colour profile of the first source in colour, a geo-reference of the first with one."""
        first = self.rasters[0].metadata
        colored = [raster for raster in self.rasters if raster.channels == "rgb"]
        icc = colored[0].metadata.icc if channels == "rgb" and colored else first.icc
        geo = next((raster.metadata.geo for raster in self.rasters if raster.metadata.geo), ())
        return replace(first, icc=icc, geo=geo)


def prepare(
    rasters: Sequence[Raster],
    ranges: Mapping[str, Range] | Range = "auto",
    bands: str | Sequence[int] = "auto",
    labels: Sequence[str] | None = None,
    geometry: Geometry | None = None,
    check_alignment: bool = False,
) -> Sources:
    """Bring pictures to what a network takes.

    Args:
        rasters: two or more sources.
        ranges: black and white of every source (see `fusion.data.files.ranges`), one for all or by label.
        bands: "auto" fuses measured bands (more than three planes, or a page of bands) one by one, "each" every plane, also of
            RGB; "rgb" takes the first three, a list such as [3, 2, 1] those bands, counted from 1.
        labels: names of the sources, "a", "b", "c", ... by default.
        geometry: how sources are brought onto one grid; None refuses different sizes.
        check_alignment: warn where sources visibly do not lie on top of each other.

    Raises:
        ConfigError: an unknown range or bands.
        DataError: sources without data, sizes or numbers of bands that do not fit.
    """
    names = tuple(labels or [chr(ord("a") + i) if i < 26 else f"source {i + 1}" for i in range(len(rasters))])
    notes: list[str] = []
    chosen = [choose_bands(raster, bands, name) for raster, name in zip(rasters, names, strict=True)]
    scales = []
    for raster, name in zip(chosen, names, strict=True):
        notes += raster.notes
        choice = ranges.get(name, "auto") if isinstance(ranges, Mapping) else ranges
        scale, said = scale_of(raster, choice, f"range.{name}")
        scales.append(scale)
        notes += said
    chosen, said = on_one_grid(chosen, geometry, names, check_alignment)
    notes += said
    chosen, said = _one_profile(chosen, names)
    notes += said
    by_band = bands == "each" or any(raster.channels == "bands" for raster in chosen)
    units = [scale.to_unit(raster.planes) for raster, scale in zip(chosen, scales, strict=True)]
    _fill_gaps(units, chosen)
    images = [_tensor(unit, by_band) for unit in units]
    if by_band:
        count = max(len(image) for image in images)
        for index, image in enumerate(images):
            if len(image) not in (1, count):
                raise DataError(
                    f"{chosen[index].path or names[index]}: has {len(image)} bands, the other source {count}; "
                    "choose the same number with bands=[3,2,1]"
                )
            images[index] = image.expand(count, -1, -1, -1)
        if count > 1:
            notes.append(f"{count} bands are fused one by one (bands=[3,2,1] chooses three as RGB)")
    overlap = geometry.overlap if geometry else "keep"
    return Sources(images, list(chosen), scales, by_band, names, list(dict.fromkeys(notes)), overlap)


def choose_bands(raster: Raster, bands: str | Sequence[int], name: str = "source") -> Raster:
    """The planes that are fused, see `prepare`.

    Raises:
        ConfigError: no such choice.
        DataError: a band that the picture does not have.
    """
    if isinstance(bands, str):
        if bands not in BANDS:
            raise ConfigError(
                f"bands={bands}: expected {', '.join(BANDS)} or a list of bands counted from 1, as [3,2,1]"
            )
        if bands == "rgb" and raster.channels == "bands":
            picked = raster.planes[:3] if len(raster.planes) >= 3 else raster.planes[:1]
            return replace(raster, planes=picked, channels="rgb" if len(picked) == 3 else "gray")
        return raster
    numbers = [int(band) for band in bands]
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"bands={list(bands)}: expected numbers from 1")
    if len(raster.planes) == 1:  # a panchromatic picture beside a multispectral one
        return raster
    if max(numbers) > len(raster.planes):
        raise DataError(f"{raster.path or name}: has {len(raster.planes)} bands, band {max(numbers)} was asked for")
    kind = {1: "gray", 3: "rgb"}.get(len(numbers), "bands")
    return replace(raster, planes=raster.planes[[n - 1 for n in numbers]], channels=kind)  # type: ignore[arg-type]


def _tensor(unit: np.ndarray, by_band: bool) -> Tensor:
    planes = torch.from_numpy(unit)
    if by_band:
        return planes[:, None].expand(-1, 3, -1, -1)
    return planes.expand(3, -1, -1)[None] if len(planes) == 1 else planes[:3][None]


def _fill_gaps(units: list[np.ndarray], rasters: Sequence[Raster]) -> None:
    """Where one source has no data it takes the others' values, so that networks see agreement and not a hole."""
    for index, raster in enumerate(rasters):
        if raster.valid is None:
            continue
        gap = ~raster.valid
        others = [i for i in range(len(units)) if i != index]
        filled = np.zeros((1, *gap.shape), np.float32)
        known = np.zeros(gap.shape, bool)
        for other in others:
            mask = rasters[other].valid
            use = ~known if mask is None else mask & ~known
            filled[:, use] = units[other].mean(0, keepdims=True)[:, use]
            known |= use
        if not known.all() and raster.valid.any():
            filled[:, ~known] = float(np.median(units[index][:, raster.valid]))
        units[index] = np.where(gap, filled, units[index]).astype(np.float32)


def _one_profile(rasters: list[Raster], names: Sequence[str]) -> tuple[list[Raster], list[str]]:
    """Colour sources speak the first one's colour profile; the others' colours are converted to it."""
    colored = [i for i, raster in enumerate(rasters) if raster.channels == "rgb"]
    notes: list[str] = []
    if not colored:
        return rasters, notes
    first = rasters[colored[0]].metadata.icc
    first = first if meta.profile_space(first) == "RGB" else None
    result = list(rasters)
    for index in colored[1:]:
        own = rasters[index].metadata.icc
        own = own if meta.profile_space(own) == "RGB" else None
        if same_profile(first, own):
            continue
        target = meta.profile_name(first) if first else "sRGB"
        source = meta.profile_name(own) if own else "sRGB"
        result[index] = convert(rasters[index], own, first)
        notes.append(f"{names[index]}: colours converted from {source} to {target}, the profile of {names[colored[0]]}")
    if first is not None and not same_profile(first, None):
        notes.append(f"colour profile of {names[colored[0]]} ({meta.profile_name(first)}) is kept in the result")
    return result, notes
