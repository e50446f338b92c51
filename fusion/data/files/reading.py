"""Read any picture file: the content decides on the reader, the ending only where content cannot tell."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from fusion.data.files import arrays, tiff
from fusion.data.files.formats import suffix_of
from fusion.data.files.metadata import exif_of_file
from fusion.data.files.pillow import read_pillow
from fusion.data.files.raster import Raster
from fusion.errors import DataError

_HEAD = 256
_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF", b"crx ": "Canon raw (CR3)",
}  # fmt: skip
_VIDEO = (b"mp4", b"isom", b"iso", b"M4V", b"qt  ", b"avc1", b"3gp", b"dash", b"mmp4")


def read_raster(path: str | Path, page: int | None = None, inks_as_bands: bool = False) -> Raster:
    """Read one picture as its file holds it: own depth, all bands, alpha, missing data, metadata; upright.

    Args:
        path: the file. See docs/formats.md for what can be read.
        page: page, frame or slice, counted from 0; None: the first, of a NIfTI volume the middle one.
        inks_as_bands: take every plane as a measured band, the inks of a CMYK TIFF and alpha too.

    Raises:
        DataError: missing, empty, damaged, without any value, or of a kind that cannot be read, which is named.
    """
    path = Path(path)
    head = _head(path)
    reader = _reader(path, head)
    raster = _read(path, reader, page, inks_as_bands)
    if raster.valid is not None and not raster.valid.any():
        raise DataError(f"{path}: has no pixel with a value, NaN or NoData everywhere; leave it out, or write it anew.")
    if inks_as_bands and raster.alpha is not None and raster.limits is not None:
        low, high = raster.limits
        plane = np.rint(raster.alpha * (high - low) + low) if raster.depth != "float" else raster.alpha
        planes = np.concatenate([raster.planes, plane.astype(raster.planes.dtype)[None]])
        return replace(raster, planes=planes, channels="bands", alpha=None)
    return raster


def _read(path: Path, reader: Callable[..., Raster], page: int | None, inks_as_bands: bool) -> Raster:
    if reader is arrays.read_nifti:
        return arrays.read_nifti(path, page)
    if reader is tiff.read_tiff:
        try:
            raster = tiff.read_tiff(path, page or 0, inks_as_bands)
        except tiff.LeftToPillow:
            return read_pillow(path, page or 0)
        return replace(raster, metadata=replace(raster.metadata, exif=exif_of_file(path)))
    return reader(path, page or 0)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, not an image file.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); download or copy it again.")
    return head


def _reader(path: Path, head: bytes) -> Callable[..., Raster]:
    suffix = suffix_of(path)
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8")):
        return read_pillow
    if head.startswith(tiff.MAGICS):
        return tiff.read_tiff
    if head.startswith((b"\x93NUMPY", b"PK\x03\x04")) and (suffix in (".npy", ".npz") or head[:1] == b"\x93"):
        return arrays.read_numpy
    if head.startswith(b"\x76\x2f\x31\x01"):
        return arrays.read_exr
    if head.startswith((b"#?RADIANCE", b"#?RGBE")):
        return arrays.read_hdr
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return arrays.read_jxl
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return arrays.read_jp2
    if arrays.is_deep_netpbm(head):
        return arrays.read_netpbm
    if head.startswith(b"SIMPLE  ="):
        return arrays.read_fits
    if suffix in (".nii", ".nii.gz"):
        return arrays.read_nifti
    _refuse_known(path, head, suffix)
    return read_pillow


def _refuse_known(path: Path, head: bytes, suffix: str) -> None:
    """Name what people try and cannot be read, instead of calling it damaged.

    Raises:
        DataError: HEIC, video, camera raw, DICOM, ...
    """
    if head[4:8] == b"ftyp" and head[8:12] not in (b"avif", b"avis"):
        brand = head[8:12]
        if brand in _BRANDS:
            raise DataError(f"{path}: {_BRANDS[brand]} cannot be read; convert it to PNG, TIFF or JPEG.")
        if brand.startswith(_VIDEO) or suffix in (".mp4", ".mov", ".m4v"):
            raise DataError(
                f"{path}: a video, not an image; predict fuses two videos, a=visible.mp4 b=infrared.mp4 (elsewhere give frames)."
            )
    if head.startswith((b"\x1a\x45\xdf\xa3", b"RIFF")) and (head[8:12] == b"AVI " or suffix in (".mkv", ".webm")):
        raise DataError(
            f"{path}: a video, not an image; predict fuses two videos, a=visible.mp4 b=infrared.mp4 (elsewhere give frames)."
        )
    named = {
        b"FUJIFILMCCD-RAW": "a Fujifilm raw file", b"IIRO": "an Olympus raw file", b"IIU\0": "a Panasonic raw file",
        b"8BPS": "a Photoshop file", b"%PDF": "a PDF", b"<svg": "a vector drawing", b"\x89HDF": "an HDF5 file",
        b"MATLAB": "a Matlab file",
    }  # fmt: skip
    for magic, what in named.items():
        if head.startswith(magic):
            raise DataError(f"{path}: {what} cannot be read; save the picture as TIFF or PNG.")
    if suffix in (".dcm", ".dicom"):
        raise DataError(f"{path}: DICOM cannot be read; convert the slices to NIfTI, TIFF or NumPy.")
    expected = {".npy": "NumPy", ".npz": "NumPy", ".exr": "OpenEXR", ".hdr": "Radiance HDR", ".jxl": "JPEG XL",
                ".fits": "FITS", ".fit": "FITS", ".fts": "FITS"}  # fmt: skip
    if suffix in expected:
        raise DataError(f"{path}: not a {expected[suffix]} file, or damaged; download or copy it again.")
