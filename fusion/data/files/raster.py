"""What a picture file holds: its planes in their own type, what their values mean, and what travels with them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

Channels = Literal["gray", "rgb", "bands"]
Depth = Literal["8", "16", "32", "float"]
DEPTHS: tuple[Depth, ...] = ("8", "16", "32", "float")
"""Depths of result files, from the shallowest to the deepest; "32" are unsigned integers."""


@dataclass(frozen=True)
class Metadata:
    """What goes from source `a` into a result file beside the pixels.

    Attributes:
        icc: colour profile.
        exif: EXIF block with its GPS part, as Pillow writes it; the orientation is taken out, because it is applied.
        xmp: XMP packet.
        dpi: resolution in pixels per inch, horizontal and vertical.
        geo: geo-reference of a TIFF: `(tag, type, count, value)` as tifffile's `extratags` take them.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    geo: tuple[tuple[int, int, int, object], ...] = ()


@dataclass(frozen=True)
class Raster:
    """One picture as its file holds it, upright.

    Attributes:
        planes: `(C, H, W)` in the file's own type (uint8, uint16, int16, uint32, float32, ...); never premultiplied.
        channels: "gray" (one plane), "rgb" (three) or "bands" (any number of measured bands, none of them alpha).
        limits: values that mean black and white by the format: (0, 255), (0, 65535), (0, 1); None where the format does not
            say, as with floating-point values outside [0, 1].
        alpha: `(H, W)` float32 opacity in [0, 1], None where the file has none.
        valid: `(H, W)` bool, False where the file has no data (NaN, GDAL's NoData); None where it has data everywhere.
        nodata: value that marks missing data in the file.
        pages: number of pages, frames or slices of the file.
        page: which of them this is, counted from 0.
        metadata: what goes into the result.
        path: the file, None for a picture from memory.
        notes: what a user should know of how it was read, one line each.
    """

    planes: np.ndarray
    channels: Channels
    limits: tuple[float, float] | None
    alpha: np.ndarray | None = None
    valid: np.ndarray | None = None
    nodata: float | None = None
    pages: int = 1
    page: int = 0
    metadata: Metadata = field(default_factory=Metadata)
    path: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.planes.shape[1], self.planes.shape[2]

    @property
    def depth(self) -> Depth:
        """The shallowest depth that keeps every value."""
        kind, bits = self.planes.dtype.kind, 8 * self.planes.dtype.itemsize
        if kind == "f":
            return "float"
        if kind == "i" and (self.limits is None or self.limits[0] < 0):
            return "float"  # only floating-point files hold negative values
        return "8" if bits == 8 and kind == "u" else "16" if bits <= 16 else "32"

    @property
    def is_gray(self) -> bool:
        """Whether there is one plane."""
        return len(self.planes) == 1

    def noted(self, *lines: str) -> "Raster":
        """The same with further notes."""
        return replace(self, notes=(*self.notes, *lines))

    def band(self, index: int) -> "Raster":
        """One plane, counted from 0, as a grey picture."""
        return replace(self, planes=self.planes[index : index + 1], channels="gray")


def limits_of(planes: np.ndarray, bits: int | None = None) -> tuple[float, float] | None:
    """Black and white by the number format.

    Args:
        planes: the values; NaN and infinity are passed over.
        bits: bits that are in use, where the file says fewer than its type holds.

    Returns:
        The full range of unsigned integers; of signed ones the half from 0 on unless there are negative values; (0, 1) for
        floating point within it, else None.
    """
    kind = planes.dtype.kind
    if kind == "u":
        return 0.0, float(2 ** (bits or 8 * planes.dtype.itemsize) - 1)
    if kind == "i":
        info = np.iinfo(planes.dtype)
        return (float(info.min) if planes.size and planes.min() < 0 else 0.0), float(info.max)
    finite = planes[np.isfinite(planes)]
    if finite.size == 0 or (float(finite.min()) >= -1e-3 and float(finite.max()) <= 1 + 1e-3):
        return 0.0, 1.0
    return None


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1 to 8) to `(..., H, W)`."""
    if not 2 <= orientation <= 8:
        return values
    if orientation >= 5:
        values = values.swapaxes(-1, -2)
    if orientation in (2, 3, 6, 7):
        values = values[..., ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[..., ::-1, :]
    return values
