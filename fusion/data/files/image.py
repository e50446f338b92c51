"""Image files to uint8 RGB tensors and back: one decoder for training and evaluation.

Decoders differ by a grey level or two on JPEG, so every part of the platform reads through `read_image`.
"""

import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from fusion.data.files.raster import Raster
from fusion.data.files.reading import read_raster
from fusion.errors import ConfigError, DataError
from fusion.files import atomic

try:
    from torchvision.io import ImageReadMode, decode_image
except ImportError:  # announced as deprecated in torchvision 0.29; Pillow reads the same files, three times slower
    decode_image = None
else:
    warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision", DeprecationWarning)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"})
"""File endings (lower case) that count as images when a folder is listed."""

WRITE_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""File endings that `write_image` can write, with Pillow's name of the format."""

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_PLAIN = {0, 2, 4, 6}  # grey, RGB, grey + alpha, RGBA: everything but palette


class Picture(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: `(3, H, W)` uint8 RGB; for one-channel files a view that repeats the channel: copy before changing it.
        is_gray: whether the file had one colour channel.
    """

    pixels: Tensor
    is_gray: bool


def read_image(path: str | Path) -> Picture:
    """Read one image file as 8-bit RGB.

    16-bit files are scaled by their bit depth (65535 becomes 255), float files are taken as [0, 1], palettes are
    resolved, CMYK and other colour spaces are converted, the EXIF orientation is applied. Alpha is dropped, not
    composited: a source image has no background to show through. Of several frames or pages the first is read, with a
    warning; of more than three bands the first three. The content decides on the decoder, not the file's ending.
    `fusion.data.files.reading.read_raster` keeps all of this.

    Raises:
        DataError: the file is missing, empty, truncated or no image; the message names it.
    """
    path = Path(path)
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if data.size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); download or copy it again.")
    if decode_image is not None and _is_plain(data[:26].tobytes()):
        try:
            channels = decode_image(torch.from_numpy(data), mode=ImageReadMode.UNCHANGED, apply_exif_orientation=True)
        except RuntimeError:
            return _read_other(path)  # strict decoders reject a few files that are merely odd
        if not (channels.shape[0] == 4 and data[:3].tobytes() == _JPEG_MAGIC):  # CMYK wants Pillow's conversion
            return _as_picture(channels)
    return _read_other(path)


def read_pair(a: str | Path, b: str | Path, match_size: Literal["a", "b"] | None = None) -> tuple[Picture, Picture]:
    """Read two images of one scene, which must have the same size.

    Args:
        a: file of source `a`.
        b: file of source `b`.
        match_size: "a" resizes `b` to the size of `a` (bicubic, antialiased), "b" the other way round; None refuses.

    Raises:
        DataError: a file is unreadable, or the sizes differ and `match_size` is None.
    """
    first, second = read_image(a), read_image(b)
    if first.pixels.shape == second.pixels.shape:
        return first, second
    if match_size in ("a", "b"):
        _warn_of_stretching(a, b, first, second)
    if match_size == "a":
        return first, second._replace(pixels=resize(second.pixels, first.pixels.shape[-2:]))
    if match_size == "b":
        return first._replace(pixels=resize(first.pixels, second.pixels.shape[-2:])), second
    sizes = " and ".join(
        f"{path} is {p.pixels.shape[-1]}x{p.pixels.shape[-2]}" for path, p in ((a, first), (b, second))
    )
    raise DataError(
        f"Images of one pair must have the same size (width x height): {sizes}; "
        "align them, or set match_size=a (resize b to a) or match_size=b."
    )


def _warn_of_stretching(a: str | Path, b: str | Path, first: Picture, second: Picture) -> None:
    """Sizes of one shape agree within a pixel after scaling; others are changed in shape."""
    (height, width), (rows, columns) = (picture.pixels.shape[-2:] for picture in (first, second))
    scale = min(rows / height, columns / width)
    if max(abs(rows - height * scale), abs(columns - width * scale)) > 1.5:
        warnings.warn(
            f"{a} and {b}: {width}x{height} and {columns}x{rows} differ in shape, so match_size stretches one of them; "
            "python -m fusion.predict fits it with fit=contain or cover",
            stacklevel=3,
        )


def resize(image: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize `(..., 3, H, W)` to `size` (height, width), bicubic and antialiased; uint8 stays uint8."""
    return F.resize(image, list(size), interpolation=F.InterpolationMode.BICUBIC, antialias=True)


def write_image(path: str | Path, image: Tensor, quality: int = 95) -> Path:
    """Write an image so that a killed run leaves no half-written file.

    Args:
        path: the ending chooses the format (PNG if there is none); missing folders are made.
        image: `(3, H, W)` or `(1, H, W)`, float in [0, 1] (clipped, times 255, rounded) or uint8.
        quality: for JPEG and WebP, 1 to 100; JPEG keeps full chroma resolution.

    Returns:
        The path that was written.

    Raises:
        ConfigError: an unknown ending.
        DataError: a wrong shape, values that are not finite, or a folder that cannot be written.
    """
    path = Path(path)
    if not path.suffix:
        path = path.with_suffix(".png")
    file_format = WRITE_FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise ConfigError(f"{path}: cannot write '{path.suffix}' images; use one of {', '.join(WRITE_FORMATS)}.")
    picture = Image.fromarray(_to_uint8_array(image, path))
    options: dict[str, int] = {}
    if file_format in ("JPEG", "WEBP"):
        options["quality"] = quality
    if file_format == "JPEG":
        options["subsampling"] = 0
    try:
        with atomic(path) as temporary:
            picture.save(temporary, format=file_format, **options)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return path


def _is_plain(header: bytes) -> bool:
    """Whether torchvision's decoder reads this file exactly as `read_image` promises."""
    if header.startswith(_JPEG_MAGIC):
        return True
    # Byte 24 of a PNG is its bit depth, byte 25 its colour type.
    return header.startswith(_PNG_MAGIC) and len(header) == 26 and header[24] in (8, 16) and header[25] in _PNG_PLAIN


def _as_picture(channels: Tensor) -> Picture:
    """`(1 to 4, H, W)` uint8 or uint16 to RGB: scale by depth, drop alpha, repeat grey."""
    if channels.dtype == torch.uint16:
        channels = ((channels.to(torch.int32) + 128) // 257).to(torch.uint8)  # 65535 / 257 = 255, rounded
    is_gray = channels.shape[0] <= 2
    pixels = channels[:1].expand(3, -1, -1) if is_gray else channels[:3]
    return Picture(pixels, is_gray)


def _read_other(path: Path) -> Picture:
    """What torchvision does not read exactly: everything else, by `read_raster`."""
    raster = read_raster(path)
    if raster.pages > 1:
        for note in raster.notes:
            warnings.warn(note, stacklevel=3)
    return _as_picture(torch.from_numpy(to_8bit(raster)))


def to_8bit(raster: Raster) -> np.ndarray:
    """Planes of a picture as `(1 or 3, H, W)` uint8, by what its format says; of more than three bands the first three.

    Raises:
        DataError: negative values, or floating point outside [0, 1]: no format says what these mean.
    """
    planes = raster.planes[:3] if raster.channels == "bands" and len(raster.planes) >= 3 else raster.planes
    planes = planes[:1] if len(planes) == 2 else planes
    if planes.dtype == np.uint8 and raster.limits == (0.0, 255.0):
        return planes
    values = planes if raster.valid is None else planes[:, raster.valid]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if raster.limits is None or raster.limits[0] < 0:
        limit = 1.0 if planes.dtype.kind == "f" else float(np.iinfo(planes.dtype).max)
        raise DataError(
            f"{raster.path}: values from {low:g} to {high:g} where 0 to {limit:g} was expected; save it as 8 bit, or fuse "
            "it with range=minmax, percentile or [low,high]."
        )
    white = raster.limits[1]
    if planes.dtype == np.uint16 and white == 65535:
        return ((planes.astype(np.int32) + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255, rounded
    scaled = np.nan_to_num(planes.astype(np.float64)) * (255.0 / white)
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def _to_uint8_array(image: Tensor, path: Path) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise DataError(f"{path}: expected a (3, H, W) or (1, H, W) image to write, got shape {tuple(image.shape)}.")
    image = image.detach().cpu()
    if image.dtype != torch.uint8:
        if not bool(torch.isfinite(image).all()):
            raise DataError(f"{path}: the image to write has values that are not finite.")
        image = (image.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).contiguous().numpy()
