"""TIFF results of any depth, with colour profile, geo-reference, EXIF and GPS."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from fusion.data.files.raster import Raster
from fusion.data.files.tiff import EXIF_IFD, GPS_IFD, NODATA, XMP

_ASCII, _BYTE, _LONG = 2, 1, 4
_TEXT_TAGS = (271, 272, 306, 315, 33432)
"""Make, Model, DateTime, Artist, Copyright."""


def write_tiff(path: Path, raster: Raster, values: np.ndarray) -> None:
    """Write one page, losslessly compressed.

    Args:
        path: the file.
        raster: for its metadata and the meaning of its planes.
        values: `(H, W)` or `(H, W, C)`, alpha last.
    """
    data = raster.metadata
    base, directories = _exif_parts(data.exif)
    extra: list[tuple[int, int, int, Any, bool]] = [
        (code, kind, count, value, True)
        for code, kind, count, value in data.geo
        if not (code == NODATA and raster.nodata is None and raster.depth == "8")
    ]
    if raster.nodata is not None and not any(code == NODATA for code, *_ in data.geo):
        extra.append((NODATA, _ASCII, 0, f"{raster.nodata:g}", True))
    if data.xmp:
        extra.append((XMP, _BYTE, len(data.xmp), data.xmp, True))
    extra += [(code, _ASCII, 0, base[code], True) for code in _TEXT_TAGS if code in base]
    extra += [(code + 1, _LONG, 1, 0, True) for code in directories]  # tifffile keeps the codes to itself: see _append
    extras = len(values.shape) == 3 and values.shape[2] - (3 if raster.channels == "rgb" else 1)
    kinds = None
    if extras:
        kinds = ["unspecified"] * int(extras)
        if raster.alpha is not None:
            kinds[-1] = "unassalpha"
    tifffile.imwrite(
        path,
        values,
        photometric="rgb" if raster.channels == "rgb" else "minisblack",
        planarconfig="contig" if values.ndim == 3 else None,
        extrasamples=kinds,
        compression="zlib",
        predictor=values.dtype.kind == "u",
        iccprofile=data.icc,
        resolution=data.dpi,
        resolutionunit="inch" if data.dpi else None,
        description=base.get(270),
        software=base.get(305) or False,
        metadata=None,
        extratags=extra,
        byteorder="<",
    )
    if directories:
        _append(path, directories)


def _exif_parts(exif: bytes | None) -> tuple[dict[int, str], dict[int, dict[int, Any]]]:
    """Text tags of the first directory, and the EXIF and GPS directories."""
    if not exif:
        return {}, {}
    block = Image.Exif()
    block.load(exif)
    base = {code: str(value) for code, value in block.items() if isinstance(value, str) and str(value).isascii()}
    directories = {code: dict(block.get_ifd(code)) for code in (EXIF_IFD, GPS_IFD)}
    return base, {code: values for code, values in directories.items() if values}


def _append(path: Path, directories: dict[int, dict[int, Any]]) -> None:
    """Directories that tifffile cannot write go behind the pixels; their tags then point there."""
    places = {}
    with path.open("ab") as file:
        for code, values in directories.items():
            file.write(b"\0" * (file.tell() % 2))
            places[code] = file.tell()
            directory = ImageFileDirectory_v2(b"II*\0\0\0\0\0", group=code)
            for tag, value in values.items():
                directory[tag] = value
            file.write(directory.tobytes(file.tell()))
    with tifffile.TiffFile(path) as written:
        offsets = {code: written.pages[0].tags[code + 1].offset for code in places}  # type: ignore[union-attr]
    with path.open("r+b") as file:
        for code, place in places.items():
            file.seek(offsets[code])
            file.write(struct.pack("<HHII", code, _LONG, 1, place))
