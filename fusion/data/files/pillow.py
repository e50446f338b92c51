"""The formats of Pillow, and 16-bit PNG: palettes, CMYK and Lab become RGB, alpha is kept, the orientation is applied."""

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from fusion.data.files import metadata as meta
from fusion.data.files.limits import check_pixels, open_image
from fusion.data.files.raster import Metadata, Raster, limits_of, upright
from fusion.data.files.tiff import INKS
from fusion.errors import DataError


def read_pillow(path: Path, page: int = 0) -> Raster:
    """Read one frame of a file.

    Raises:
        DataError: no image, damaged, or without such a frame.
    """
    try:
        with open_image(path) as image:
            pages = getattr(image, "n_frames", 1)
            if not 0 <= page < pages:
                raise DataError(f"{path}: has {pages} frame(s), frame {page} (counted from 0) was asked for.")
            if page:
                image.seek(page)
            if image.format != "PNG" or _png_depth(path) != 16:
                image.load()  # first: a damaged picture that something else has loaded before raises no more
            return from_pillow(image, path, pages, page)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image, or a format that Pillow cannot read; convert it to PNG.") from None
    except MemoryError:
        raise DataError(f"{path}: not enough memory to read it, or a damaged header.") from None
    except Exception as error:  # each of its plug-ins has its own kinds
        raise DataError(f"{path}: unreadable or truncated image ({error}); download or copy it again.") from error


def from_pillow(image: Image.Image, path: Path | None = None, pages: int = 1, page: int = 0) -> Raster:
    """A Pillow image as a raster, upright."""
    notes = []
    if pages > 1 and image.format != "MPO":  # further frames of a camera's JPEG are previews
        notes.append(
            f"{path}: {pages} frames, frame {page} (counted from 0) is used; page=N takes another, sources=FILE all"
        )
    metadata, source = meta.of_pillow(image), image.format
    if path is not None and image.format == "PNG" and _png_depth(path) == 16:
        turned = upright(_read_deep_png(path), int(image.getexif().get(0x0112, 1)))
        planes, alpha = np.ascontiguousarray(turned), None
        if len(planes) in (2, 4):
            planes, alpha = planes[:-1], (planes[-1] / np.float32(65535)).astype(np.float32)
        return _raster(planes, alpha, metadata, path, pages, page, notes)
    image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode in ("RGBa", "La"):
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[mode])
    elif mode in ("P", "PA"):
        clear = "transparency" in image.info or mode == "PA"
        image = image.convert("RGBA" if clear else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, rgb, "LAB", "RGB"))
        assert converted is not None  # it is only where an image is changed in place
        image = converted
        notes.append("Lab converted to sRGB")
        metadata = _without_profile(metadata)
    elif mode == "CMYK":
        image, line = _from_cmyk(image, metadata.icc)
        notes.append(line)
        metadata = _without_profile(metadata)
    elif mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("LA" if mode == "L" else "RGBA")
    elif mode not in ("L", "LA", "RGB", "RGBA", "F") and not mode.startswith("I"):
        image = image.convert("RGB")
        notes.append(f"{mode} converted to RGB")
    values = np.array(image)
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    values = values[..., None] if values.ndim == 2 else values
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    if planes.dtype.kind in "ui" and planes.dtype.itemsize > 1:
        planes = planes.astype(planes.dtype.newbyteorder("="))
        if planes.dtype == np.int32 and planes.min() >= 0 and planes.max() <= 65535:
            planes = planes.astype(np.uint16)  # Pillow's mode "I" of 16-bit files
    alpha = None
    if image.mode in ("LA", "RGBA"):
        planes, alpha = planes[:-1], (planes[-1] / np.float32(255)).astype(np.float32)
    if (mode in ("P", "PA") or source in ("WEBP", "AVIF")) and (planes == planes[:1]).all():
        planes = planes[:1]
    return _raster(planes, alpha, metadata, path, pages, page, notes)


def _raster(
    planes: np.ndarray,
    alpha: np.ndarray | None,
    metadata: Metadata,
    path: Path | None,
    pages: int,
    page: int,
    notes: list[str],
) -> Raster:
    channels = "gray" if len(planes) == 1 else "rgb"
    valid = None
    if planes.dtype.kind == "f" and not np.isfinite(planes).all():
        valid = np.isfinite(planes).all(0)
    limits = limits_of(planes)
    return Raster(planes, channels, limits, alpha, valid, None, pages, page, metadata, path, tuple(notes))  # type: ignore[arg-type]


def _without_profile(metadata: Metadata) -> Metadata:
    return replace(metadata, icc=None)


def _from_cmyk(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    if icc is not None and meta.profile_space(icc) == "CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if made is not None:
                return made, f"CMYK converted to sRGB by its profile ({meta.profile_name(icc)})"
        except ImageCms.PyCMSError:
            pass
    return image.convert("RGB"), INKS


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        header = file.read(26)
    return header[24] if len(header) == 26 and header.startswith(b"\x89PNG\r\n\x1a\n") else 0


def _read_deep_png(path: Path) -> np.ndarray:
    """16-bit PNG, of which Pillow reads the colour ones as 8 bit: `(1 to 4, H, W)` uint16."""
    import imagecodecs

    data = path.read_bytes()
    check_pixels(path, *struct.unpack(">II", data[16:24]))
    try:
        values = imagecodecs.png_decode(data)
    except Exception as error:  # its codecs have their own kinds of error
        raise DataError(f"{path}: unreadable or truncated image ({error}); download or copy it again.") from error
    values = np.asarray(values)
    values = values[..., None] if values.ndim == 2 else values
    return np.ascontiguousarray(values.transpose(2, 0, 1)).astype(np.uint16)
