"""TIFF of any depth, layout and compression, by tifffile: measured bands stay bands, missing data is known as such."""

import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from fusion.data.files.limits import check_pixels
from fusion.data.files.raster import Channels, Metadata, Raster, limits_of, upright
from fusion.errors import DataError

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is said by an exception here

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
"""ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory and its parameters, GDAL's metadata and NoData."""
ICC, XMP, EXIF_IFD, GPS_IFD, ORIENTATION, NODATA = 34675, 700, 34665, 34853, 274, 42113

_GRAY, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = (1, 0), 2, 3, 5, 6, 8
_REFUSED = {
    32803: "a raw camera file (colour filter array); develop it to TIFF or PNG first",
    34892: "a raw camera file (linear DNG); develop it to TIFF or PNG first",
    32844: "LogL values; convert it to floating-point TIFF",
    32845: "LogLuv values; convert it to floating-point TIFF",
    4: "a transparency mask, no picture",
}


INKS = "CMYK converted to RGB without a profile; bands=each takes its planes as measured bands"


class LeftToPillow(Exception):
    """Palettes, YCbCr, 8-bit CMYK and Lab: Pillow converts them."""


MOST_PAGES = 100_000


def read_tiff(path: Path, page: int = 0, inks_as_bands: bool = False) -> Raster:
    """Read one page.

    Args:
        path: the file.
        page: counted from 0; thumbnails and overviews do not count.
        inks_as_bands: take the planes of a CMYK file as four measured bands, as which Matlab writes them.

    Raises:
        LeftToPillow: a colour model that Pillow is for.
        DataError: damaged, of a kind that is not supported (said which), or without such a page.
    """
    try:
        with tifffile.TiffFile(path) as file:
            return _read(file, path, page, inks_as_bands)
    except (DataError, LeftToPillow):
        raise
    except MemoryError:
        raise DataError(f"{path}: not enough memory to read it, or a damaged header.") from None
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise DataError(f"{path}: its compression needs the package imagecodecs ({error}).") from error
        raise DataError(
            f"{path}: unreadable or truncated image ({_short(error)}); download or copy it again."
        ) from error
    except Exception as error:  # tifffile and its codecs have many kinds of error of their own
        raise DataError(
            f"{path}: unreadable or truncated image ({_short(error)}); download or copy it again."
        ) from error


def count_pages(file: tifffile.TiffFile) -> list[Any]:
    """The pages that are pictures: no thumbnails, overviews or masks."""
    every: list[Any] = []
    seen: set[int] = set()
    for page in file.pages:
        if page.offset in seen or len(seen) > MOST_PAGES:
            raise ValueError("its pages go in a circle, or are more than a file has")
        seen.add(page.offset)
        every.append(page)
    pages = [page for page in every if not (getattr(page, "is_reduced", False) or getattr(page, "is_mask", False))]
    return pages or every


def _read(file: tifffile.TiffFile, path: Path, number: int, inks_as_bands: bool) -> Raster:
    pages = count_pages(file)
    if not 0 <= number < len(pages):
        raise DataError(f"{path}: has {len(pages)} page(s), page {number} (counted from 0) was asked for.")
    page = pages[number]
    page = page.aspage() if hasattr(page, "aspage") else page
    photometric, samples = int(page.photometric or 0), int(page.samplesperpixel)
    extras = [int(extra) for extra in page.extrasamples or ()]
    if photometric == _CMYK and inks_as_bands:
        photometric = 1
    if photometric in _REFUSED:
        raise DataError(f"{path}: {_REFUSED[photometric]}.")
    deep = page.dtype is not None and page.dtype.itemsize > 1
    if photometric in (_PALETTE, _YCBCR) or (photometric in (_CMYK, _LAB) and not deep):
        raise LeftToPillow
    if photometric not in (*_GRAY, _RGB, _CMYK):
        raise DataError(
            f"{path}: TIFF with photometric {page.photometric!r} and {page.bitspersample} bits; convert it to RGB."
        )
    if page.imagedepth > 1:
        raise DataError(f"{path}: a volume of {page.imagedepth} slices in one page; save the slices as pages.")
    check_pixels(path, int(page.imagewidth), int(page.imagelength), samples)
    planes = _planes(page, samples, path)
    if planes.dtype == bool:
        planes, bits = planes.astype(np.uint8), 1
    else:
        bits = int(page.bitspersample)
    if planes.dtype.kind not in "uif":
        raise DataError(f"{path}: values of type {planes.dtype}; expected integers or floating point.")
    if planes.dtype == np.float16:
        planes = planes.astype(np.float32)
    notes: list[str] = []
    if len(pages) > 1:
        notes.append(
            f"{path}: {len(pages)} pages, page {number} (counted from 0) is used; page=N takes another, sources=FILE all"
        )
    tags = {tag.code: tag.value for tag in page.tags}
    nodata = _nodata(tags.get(NODATA))
    valid = _valid(planes, nodata)
    limits = _limits(planes, bits, tags, valid)
    if photometric == 0 and limits is not None:  # white is zero
        planes = _inverted(planes, limits)
        if nodata is not None:
            nodata = limits[0] + limits[1] - nodata
    planes, alpha, channels, said = _channels(planes, photometric, extras, limits)
    turn = int(tags.get(ORIENTATION, 1))
    return Raster(
        planes=np.ascontiguousarray(upright(planes, turn)),
        channels=channels,
        limits=limits,
        alpha=None if alpha is None else upright(alpha, turn),
        valid=None if valid is None else upright(valid, turn),
        nodata=nodata,
        pages=len(pages),
        page=number,
        metadata=_metadata(page, tags, turn),
        path=path,
        notes=tuple(notes + said),
    )


def _planes(page: Any, samples: int, path: Path) -> np.ndarray:
    offsets, counts = page.dataoffsets, page.databytecounts
    end = path.stat().st_size
    if any(offset + count > end for offset, count in zip(offsets, counts, strict=False)):
        raise DataError(f"{path}: unreadable or truncated image (its data ends early); download or copy it again.")
    values = np.asarray(page.asarray())
    height, width = page.imagelength, page.imagewidth
    if samples == 1:
        return values.reshape(1, height, width)
    if values.shape == (samples, height, width):  # a plane after the other
        return values
    return np.ascontiguousarray(values.reshape(height, width, samples).transpose(2, 0, 1))


def _nodata(value: Any) -> float | None:
    try:
        return None if value is None else float(str(value).strip().strip("\0"))
    except ValueError:
        return None


def _valid(planes: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Where there is data: a pixel counts as missing when all its bands are."""
    missing = np.zeros(planes.shape[1:], bool)
    if planes.dtype.kind == "f":
        missing |= ~np.isfinite(planes).all(0)
    if nodata is not None and np.isfinite(nodata):
        missing |= (planes == planes.dtype.type(nodata) if planes.dtype.kind == "f" else planes == nodata).all(0)
    return ~missing if missing.any() else None


def _limits(
    planes: np.ndarray, bits: int, tags: dict[int, Any], valid: np.ndarray | None
) -> tuple[float, float] | None:
    known = limits_of(planes if valid is None else planes[:, valid], bits if planes.dtype.kind == "u" else None)
    largest = tags.get(341 if planes.dtype.kind == "f" else 281)  # SMaxSampleValue, MaxSampleValue
    try:
        white = float(np.max(np.asarray(largest, np.float64))) if largest is not None else None
    except (TypeError, ValueError):
        white = None
    if white is None or known is None or planes.dtype.kind != "u" or not 0 < white < known[1] or planes.max() > white:
        return known
    # Many writers store the largest value found rather than the largest possible one: only full bit depths are believed.
    return (0.0, white) if np.log2(white + 1) % 1 == 0 else known


def _inverted(planes: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    if planes.dtype.kind == "f":
        return (limits[0] + limits[1] - planes).astype(planes.dtype)
    return (int(limits[0] + limits[1]) - planes.astype(np.int64)).astype(planes.dtype)


def _channels(
    planes: np.ndarray, photometric: int, extras: list[int], limits: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray | None, Channels, list[str]]:
    """Tell colour, measured bands and alpha apart."""
    said: list[str] = []
    alpha = None
    colors = {_RGB: 3, _CMYK: 4}.get(photometric, 1)
    if photometric == _CMYK:
        if len(planes) < 4 or limits is None:
            raise DataError("CMYK with fewer than four inks, or of floating-point values; convert it to RGB.")
        white = limits[1]
        ink = planes[:4].astype(np.float64) / white
        planes = np.rint((1 - ink[:3]) * (1 - ink[3]) * white).astype(planes.dtype)
        return planes, None, "rgb", [INKS]
    if len(planes) > colors and len(extras) >= len(planes) - colors:
        kinds = extras[-(len(planes) - colors) :]
        places = [colors + i for i, kind in enumerate(kinds) if kind in (1, 2)]
        if len(places) == 1 and limits is not None:
            place = places[0]
            alpha = ((planes[place].astype(np.float64) - limits[0]) / (limits[1] - limits[0])).astype(np.float32)
            straight = kinds[place - colors] == 2
            planes = np.delete(planes, place, axis=0)
            if not straight:
                planes, line = _unpremultiplied(planes, alpha, limits)
                said.append(line)
    if len(planes) == 1:
        return planes, alpha, "gray", said
    if len(planes) == 3 and photometric == _RGB:
        return planes, alpha, "rgb", said
    return planes, alpha, "bands", said


def _unpremultiplied(planes: np.ndarray, alpha: np.ndarray, limits: tuple[float, float]) -> tuple[np.ndarray, str]:
    """Colour that was multiplied with alpha, divided by it; colour above alpha cannot have been multiplied."""
    step = (limits[1] - limits[0]) * alpha
    if (planes > step + 1).any():
        return planes, "alpha is marked as premultiplied, but colours exceed it: taken as straight"
    straight = np.where(alpha > 0, planes / np.maximum(alpha, 1e-6), 0).clip(*limits)
    straight = straight if planes.dtype.kind == "f" else np.rint(straight)
    return straight.astype(planes.dtype), "premultiplied alpha was divided out"


def _metadata(page: Any, tags: dict[int, Any], orientation: int) -> Metadata:
    geo = []
    for code in GEO_TAGS:
        tag = page.tags.get(code)
        if tag is not None and not (orientation not in (0, 1) and code != NODATA):  # turned pixels lose their reference
            value = tag.value
            geo.append((code, int(tag.dtype), 0 if isinstance(value, str) else int(tag.count), value))
    across, down = (_ratio(tags.get(code)) for code in (282, 283))
    unit = int(tags.get(296, 2))
    dpi = None
    if across and down and min(across, down) > 0 and unit in (2, 3):
        factor = 1.0 if unit == 2 else 2.54
        dpi = (across * factor, down * factor)
    icc, xmp = tags.get(ICC), tags.get(XMP)
    return Metadata(
        icc=bytes(icc) if isinstance(icc, bytes | bytearray) else None,
        exif=None,  # filled in by `reading`, through Pillow
        xmp=bytes(xmp) if isinstance(xmp, bytes | bytearray) else None,
        dpi=dpi,
        geo=tuple(geo),
    )


def _ratio(value: Any) -> float | None:
    try:
        top, bottom = value
        return float(top) / float(bottom)
    except (TypeError, ValueError, ZeroDivisionError, struct.error):
        return None


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
