"""EXIF, colour profiles and resolution: taken out of a picture, put into a result."""

import struct
from pathlib import Path
from typing import Any

from PIL import Image

from fusion.data.files.limits import open_image
from fusion.data.files.raster import Metadata

_BASE_KEPT = (270, 271, 272, 305, 306, 315, 33432, 36867)
"""ImageDescription, Make, Model, Software, DateTime, Artist, Copyright: tags of the first directory that describe the scene.

The rest of it describes the pixels as stored (size, compression, offsets) or is applied (orientation)."""
_EXIF, _GPS = 0x8769, 0x8825
_DROPPED_EXIF = (0x927C, 0xA002, 0xA003, 0xA005)
"""MakerNote (its offsets break when moved), pixel sizes, and the interoperability pointer."""


def of_pillow(image: Image.Image) -> Metadata:
    """What an opened Pillow image brings."""
    info = image.info
    icc = info.get("icc_profile")
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    return Metadata(
        icc=icc if isinstance(icc, bytes) and len(icc) > 128 else None,
        exif=exif_block(image),
        xmp=xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else None,
        dpi=_dpi(info),
    )


def exif_block(image: Image.Image) -> bytes | None:
    """EXIF with its GPS part, without what no longer holds; None where there is none."""
    try:
        source = image.getexif()
        kept = Image.Exif()
        for code in _BASE_KEPT:
            if code in source:
                kept[code] = source[code]
        for directory in (_EXIF, _GPS):
            values = {k: v for k, v in source.get_ifd(directory).items() if k not in _DROPPED_EXIF}
            if values:
                kept.get_ifd(directory).update(values)
                kept[directory] = kept.get_ifd(directory)
        return kept.tobytes() if len(kept) else None
    except Exception:  # damaged EXIF is no reason to refuse the picture
        return None


def exif_of_file(path: Path) -> bytes | None:
    """EXIF of a file whose pixels another library read."""
    try:
        with open_image(path) as image:
            return exif_block(image)
    except Exception:
        return None


def profile_space(icc: bytes | None) -> str | None:
    """Colour space of an ICC profile: "RGB", "GRAY", "CMYK", ...; None without a profile."""
    return icc[16:20].decode("ascii", "replace").strip() if icc and len(icc) > 128 else None


def profile_name(icc: bytes) -> str:
    """What a profile calls itself."""
    import io

    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except Exception:  # littlecms refuses damaged profiles
        return "unnamed profile"


def _dpi(info: dict[Any, Any]) -> tuple[float, float] | None:
    dpi = info.get("dpi")
    try:
        across, down = (float(x) for x in dpi)  # type: ignore[union-attr]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if across > 1 and down > 1 else None


def png_chunks(metadata: Metadata) -> bytes:
    """Metadata as chunks that go behind a PNG's header."""
    import zlib

    chunks = b""
    if metadata.icc:
        chunks += _chunk(b"iCCP", b"profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        x, y = (round(value / 0.0254) for value in metadata.dpi)
        chunks += _chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    if metadata.exif:
        chunks += _chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    if metadata.xmp:
        chunks += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    return chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    import zlib

    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
