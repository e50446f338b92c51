"""Which values of a file mean black and white: `range=auto|full|minmax|percentile|[lo,hi]`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fusion.data.files.raster import Raster
from fusion.errors import ConfigError, DataError

RANGES = ("auto", "full", "minmax", "percentile")
PERCENTILES = (0.5, 99.5)
"""Share of the values, in percent, below black and below white for `range=percentile`."""
NARROW = 0.1
"""A source that uses less than this share of its range draws a warning."""

Range = str | Sequence[float]


class Scale(NamedTuple):
    """Black and white of a source, in the units of its file."""

    low: float
    high: float

    def to_unit(self, values: np.ndarray) -> np.ndarray:
        """Values to float32 in [0, 1], clipped; not-a-number becomes 0."""
        span = self.high - self.low
        if span <= 0:
            return np.zeros(values.shape, np.float32)
        if values.dtype == np.uint8 and (self.low, self.high) == (0.0, 255.0):
            return values.astype(np.float32) / np.float32(255)  # the same bits as torch's uint8 / 255
        unit = (values.astype(np.float64) - self.low) / span
        return np.nan_to_num(unit, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1).astype(np.float32)

    def from_unit(self, unit: np.ndarray) -> np.ndarray:
        """The inverse of `to_unit`, as float64."""
        return unit.astype(np.float64) * (self.high - self.low) + self.low


def check_range(value: Range, key: str = "range") -> Range:
    """Refuse what is no range.

    Raises:
        ConfigError: names the key.
    """
    if isinstance(value, str):
        if value in RANGES:
            return value
    elif isinstance(value, Sequence) and len(value) == 2 and all(isinstance(x, int | float) for x in value):
        low, high = float(value[0]), float(value[1])
        if low < high:
            return [low, high]
        raise ConfigError(f"{key}={list(value)}: expected [low, high] with low below high")
    raise ConfigError(f"{key}={value}: expected {', '.join(RANGES)} or [low, high] in the units of the file")


def scale_of(raster: Raster, choice: Range = "auto", key: str = "range") -> tuple[Scale, list[str]]:
    """Black and white of a picture.

    Args:
        raster: the picture; missing data does not count.
        choice: "auto" what the format says (its full range, [0, 1] for floating point; floating point outside [0, 1] from its
            smallest to its largest value), "full" the same but refusing where the format does not say, "minmax", "percentile"
            (0.5 to 99.5), or `[low, high]` in the units of the file.
        key: how the option is called in messages (`range.b`).

    Returns:
        The scale, and lines for the user: what was assumed, and a warning where less than a tenth of the range is in use.

    Raises:
        ConfigError: no such range.
        DataError: "full" where the format does not say what is white, or no finite value in the picture.
    """
    choice = check_range(choice, key)
    name = str(raster.path) if raster.path else key.rsplit(".", 1)[-1]
    if raster.planes.dtype == np.uint8 and choice in ("auto", "full") and raster.valid is None:
        scale = Scale(*(raster.limits or (0.0, 255.0)))
        return scale, _narrow(raster, scale, float(raster.planes.min()), float(raster.planes.max()), name, key)
    values = _data(raster)
    if values.size == 0:
        raise DataError(f"{name}: no pixel of this picture has data")
    low, high = float(values.min()), float(values.max())
    if not isinstance(choice, str):
        scale = Scale(float(choice[0]), float(choice[1]))
        if low > scale.high or high < scale.low:
            raise DataError(
                f"{name}: its values lie from {low:g} to {high:g}, all outside {key}=[{scale.low:g},{scale.high:g}]"
            )
        return scale, _narrow(raster, scale, *_bulk(values), name, key)
    if choice == "minmax":
        return _stretch(low, high), []
    if choice == "percentile":
        return _stretch(*(float(x) for x in np.percentile(values, PERCENTILES))), []
    if raster.limits is not None:
        scale = Scale(*raster.limits)
        return scale, _narrow(raster, scale, *_bulk(values), name, key)
    if choice == "full":
        raise DataError(
            f"{name}: floating-point values from {low:g} to {high:g}, whose full range the file does not say; "
            f"set {key}=minmax, percentile or [low,high]"
        )
    said = (
        f"{name}: floating-point values from {low:g} to {high:g}, taken as black and white; "
        f"{key}=[low,high] keeps several files comparable, {key}=percentile leaves outliers aside"
    )
    scale = _stretch(low, high)
    return scale, [said, *_narrow(raster, scale, *_bulk(values), name, key)]


def _stretch(low: float, high: float) -> Scale:
    return Scale(low, high if high > low else low + 1.0)  # a constant picture is black


def _data(raster: Raster) -> np.ndarray:
    values = raster.planes if raster.valid is None else raster.planes[:, raster.valid]
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)


def _bulk(values: np.ndarray) -> tuple[float, float]:
    """Where nearly all values lie: a few hot or dead pixels must not hide that a picture uses little of its range."""
    thinned = values[:: max(1, values.size // 1_000_000)]
    low, high = np.percentile(thinned, (0.1, 99.9))
    return float(low), float(high)


def _narrow(raster: Raster, scale: Scale, low: float, high: float, name: str, key: str) -> list[str]:
    used = (high - low) / (scale.high - scale.low)
    if used >= NARROW or high <= low:
        return []
    if raster.planes.dtype.kind in "ui":
        low, high = math.floor(low), math.ceil(high)
    return [
        f"warning: {name}: its values, {low:g} to {high:g}, use {100 * used:.2g} % of the range {scale.low:g} to {scale.high:g}; "
        f"{key}=minmax or {key}=[{low:g},{high:g}] stretches them"
    ]
