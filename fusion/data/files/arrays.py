"""Pictures that are arrays: NumPy, NIfTI, FITS, OpenEXR, Radiance HDR, JPEG XL."""

import math
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from fusion.data.files.headers import jp2_size, jxl_size
from fusion.data.files.limits import check_pixels
from fusion.data.files.raster import Metadata, Raster, limits_of
from fusion.errors import DataError

_LONGEST_HEADER = 1 << 16  # of Radiance HDR
INSTALL = "python -m pip install 'image-fusion[formats]'"


def read_numpy(path: Path, page: int = 0) -> Raster:
    """`.npy`, or `.npz` with one array: `(H, W)`, `(H, W, C)` or `(C, H, W)`; pickled objects are refused."""
    packed = _guarded(path, lambda: _check_numpy(path))
    content = _guarded(path, lambda: np.load(path, mmap_mode=None if packed else "r", allow_pickle=False))
    if isinstance(content, np.lib.npyio.NpzFile):
        content = _guarded(path, lambda: content[content.files[0]])
    return from_array(np.array(content), path)


def _check_numpy(path: Path) -> bool:
    """Look at the header of the one array, before any of it is read or unpacked.

    Returns:
        Whether it is packed (`.npz`).
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":  # as NumPy tells them apart
            file.seek(0)
            _check_header(path, file)
            return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise DataError(f"{path}: holds {len(names)} arrays ({', '.join(names[:5])}); expected one, the picture.")
        with archive.open(names[0]) as part:
            _check_header(path, part)
    return True


def _check_header(path: Path, file: IO[bytes]) -> None:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{path}: an array with named fields or of an unknown version; expected numbers.")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise DataError(f"{path}: pickled objects, which are not opened; expected numbers.")
    if dtype.kind not in "buif":
        raise DataError(f"{path}: an array of type {dtype}, shape {shape}; expected numbers.")
    if len(shape) not in (2, 3):
        raise DataError(f"{path}: an array of shape {shape}; expected (H, W), (H, W, C) or (C, H, W).")
    planes, height, width = sorted(shape) if len(shape) == 3 else (1, *shape)
    check_pixels(path, width, height, planes)


def read_nifti(path: Path, page: int | None = None) -> Raster:
    """A slice of a NIfTI volume along its third axis, rows along the second; the middle one where none is named."""
    try:
        import nibabel
    except ModuleNotFoundError:
        raise DataError(f"{path}: reading NIfTI needs the package nibabel ({INSTALL}).") from None
    import logging

    logging.getLogger("nibabel").setLevel(logging.CRITICAL)
    image = _guarded(path, lambda: nibabel.load(path))
    shape: tuple[int, ...] = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3):
        raise DataError(f"{path}: a NIfTI file of shape {shape}; expected two or three dimensions.")
    check_pixels(path, shape[0], shape[1])
    slices = shape[2] if len(shape) == 3 else 1
    number = slices // 2 if page is None else page
    if not 0 <= number < slices:
        raise DataError(f"{path}: has {slices} slices, slice {number} (counted from 0) was asked for.")
    index = (slice(None), slice(None), number)[: len(shape)] + (0,) * (len(image.shape) - len(shape))
    plane = np.asarray(_guarded(path, lambda: image.dataobj[index])).T
    raster = from_array(np.ascontiguousarray(plane), path, pages=slices, page=number)
    if slices == 1:
        return raster
    return raster.noted(
        f"{path}: {slices} slices, slice {number} (counted from 0) is used; page=N takes another, sources=FILE all"
    )


def read_fits(path: Path, page: int = 0) -> Raster:
    """The first image of a FITS file, scaled as its header says; the first stored row is the upper one."""
    try:
        from astropy.io import fits
    except ModuleNotFoundError:
        raise DataError(f"{path}: reading FITS needs the package astropy ({INSTALL}).") from None

    def read() -> tuple[np.ndarray, int] | None:
        with fits.open(path, memmap=False) as units:
            for unit in units:
                shape = tuple(int(side) for side in unit.shape) if unit.is_image else ()
                if not shape:
                    continue
                if len(shape) < 2:
                    raise DataError(f"{path}: a FITS array of shape {shape}; expected an image.")
                pages = math.prod(shape[:-2])
                packed = isinstance(unit, fits.CompImageHDU)  # its tiles may reach over all planes
                check_pixels(path, shape[-1], shape[-2], pages if packed else 1)
                if not 0 <= page < pages:
                    raise DataError(f"{path}: has {pages} planes, plane {page} (counted from 0) was asked for.")
                place = [int(index) for index in np.unravel_index(page, shape[:-2])] if len(shape) > 2 else []
                return np.array(unit.section[(*place, slice(None), slice(None))]), pages
        return None

    found = _guarded(path, read)
    if found is None:
        raise DataError(f"{path}: no image in this FITS file.")
    values, pages = found
    raster = from_array(np.ascontiguousarray(values), path, pages=pages, page=page)
    if pages == 1:
        return raster
    return raster.noted(
        f"{path}: {pages} planes, plane {page} (counted from 0) is used; page=N takes another, sources=FILE all"
    )


def read_exr(path: Path, page: int = 0) -> Raster:
    """The first part of an OpenEXR file: R, G, B (and A), or a luminance; its values are linear light."""
    try:
        import OpenEXR
    except ModuleNotFoundError:
        raise DataError(f"{path}: reading OpenEXR needs the package OpenEXR ({INSTALL}).") from None

    def read() -> dict[str, np.ndarray]:
        for part in OpenEXR.File(str(path), header_only=True).parts:  # all of them are decoded
            low, high = ([int(value) for value in corner] for corner in part.header["dataWindow"])
            check_pixels(path, high[0] - low[0] + 1, high[1] - low[1] + 1, len(part.header["channels"]))
        channels = OpenEXR.File(str(path), separate_channels=True).channels()
        return {name: np.asarray(channel.pixels) for name, channel in channels.items()}

    found = _guarded(path, read)
    by_name = {name.rsplit(".", 1)[-1].upper(): values for name, values in reversed(list(found.items()))}
    colors = [by_name[name] for name in "RGB" if name in by_name]
    if len(colors) != 3:
        colors = [next((by_name[n] for n in ("Y", "Z", "R", "L") if n in by_name), next(iter(found.values())))]
    if any(plane.shape != colors[0].shape for plane in colors):
        raise DataError(f"{path}: its channels differ in size (sub-sampled chroma); save it as RGB.")
    raster = from_array(np.stack(colors, -1).astype(np.float32), path)
    alpha = by_name.get("A")
    if alpha is None or alpha.shape != raster.size:
        return raster
    return replace(raster, alpha=alpha.astype(np.float32).clip(0, 1))


def read_hdr(path: Path, page: int = 0) -> Raster:
    """Radiance HDR (RGBE); its values are linear light."""
    import imagecodecs

    with path.open("rb") as file:
        sizes = re.findall(rb"\n[-+][XY] +(\d+) +[-+][XY] +(\d+)", file.read(_LONGEST_HEADER))
    if not sizes:
        raise DataError(f"{path}: unreadable or truncated image (no size in its header); download or copy it again.")
    for height, width in sizes:  # a comment may look like one
        check_pixels(path, int(width), int(height))
    return from_array(np.asarray(_guarded(path, lambda: imagecodecs.rgbe_decode(path.read_bytes()))), path)


def read_jxl(path: Path, page: int = 0) -> Raster:
    """JPEG XL; of an animation the first frame."""
    import imagecodecs

    check_pixels(path, *_guarded(path, lambda: jxl_size(path)))
    values = np.asarray(_guarded(path, lambda: imagecodecs.jpegxl_decode(path.read_bytes(), index=0)))
    if values.ndim == 4:  # frames
        values = values[0]
    return from_array(values, path, alpha_last=True)


def read_jp2(path: Path, page: int = 0) -> Raster:
    """JPEG 2000 at its own depth, of which Pillow reads colour as 8 bit."""
    import imagecodecs

    check_pixels(path, *_guarded(path, lambda: jp2_size(path)))
    values = np.asarray(_guarded(path, lambda: imagecodecs.jpeg2k_decode(path.read_bytes())))
    return from_array(values, path, alpha_last=True)


def read_netpbm(path: Path, page: int = 0) -> Raster:
    """PGM or PPM of more than 8 bit, of which Pillow reads colour as 8 bit."""
    data = path.read_bytes()
    header = re.match(rb"P([56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s", data)
    assert header is not None
    kind, width, height, white = (int(group) for group in header.groups())
    check_pixels(path, width, height)
    count = width * height * (1 if kind == 5 else 3)
    if len(data) - header.end() < 2 * count:
        raise DataError(f"{path}: unreadable or truncated image (its data ends early); download or copy it again.")
    values = np.frombuffer(data, ">u2", count, header.end()).reshape(height, width, -1).astype(np.uint16)
    raster = from_array(values, path)
    return replace(raster, limits=(0.0, float(white)))


def is_deep_netpbm(head: bytes) -> bool:
    """Whether a file's first bytes are those of a binary PGM or PPM of more than 8 bit."""
    found = re.match(rb"P[56](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)\s", head)
    return found is not None and 255 < int(found[1]) < 65536


def from_array(
    values: np.ndarray, path: Path | None = None, *, pages: int = 1, page: int = 0, alpha_last: bool = False
) -> Raster:
    """A picture out of an array `(H, W)`, `(H, W, C)` or `(C, H, W)` of integers or floating point.

    Args:
        values: the array; the shorter end is taken for the channels.
        path: where it is from.
        pages, page: see `Raster`.
        alpha_last: the last of two or four channels is alpha.

    Raises:
        DataError: another shape or type.
    """
    name = path or "array"
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype.kind not in "uif" or values.size == 0:
        raise DataError(f"{name}: an array of type {values.dtype}, shape {values.shape}; expected numbers.")
    if values.dtype == np.float16 or values.dtype == np.longdouble:
        values = values.astype(np.float32)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 2:
        planes = values[None]
    elif values.ndim == 3 and values.shape[2] <= 16 and values.shape[2] <= values.shape[0]:
        planes = values.transpose(2, 0, 1)
    elif values.ndim == 3 and values.shape[0] <= 16:
        planes = values
    else:
        raise DataError(f"{name}: an array of shape {values.shape}; expected (H, W), (H, W, C) or (C, H, W).")
    if planes.dtype.kind in "ui" and planes.dtype.itemsize == 8:
        planes = planes.astype(np.float64)
    alpha = None
    limits = limits_of(planes)
    if alpha_last and len(planes) in (2, 4) and limits is not None:
        alpha, planes = (planes[-1] / limits[1]).astype(np.float32), planes[:-1]
    valid = None
    if planes.dtype.kind == "f" and not np.isfinite(planes).all():
        valid = np.isfinite(planes).all(0)
    channels = {1: "gray", 3: "rgb"}.get(len(planes), "bands")
    planes = np.ascontiguousarray(planes)
    planes = planes if planes.flags.writeable else planes.copy()
    return Raster(planes, channels, limits, alpha, valid, None, pages, page, Metadata(), path)  # type: ignore[arg-type]


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    """Call a library's reader; whatever it raises names the file."""
    try:
        return read()
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file.") from None
    except MemoryError:
        raise DataError(f"{path}: not enough memory to read it, or a damaged header.") from None
    except Exception as error:  # each library has its own kinds
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path}: unreadable or truncated image ({text}); download or copy it again.") from error
