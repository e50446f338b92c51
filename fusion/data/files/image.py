"""Image files to uint8 RGB tensors and back: one decoder for training and evaluation.

Decoders differ by a grey level or two on JPEG, so every part of the platform reads through `read_image`.
"""

import io
import struct
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from fusion.data.files.limits import check_pixels, open_image
from fusion.data.files.png import MAGIC, sound_png
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
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError)
"""What Pillow's plugins raise on damaged files."""


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
    composited: a source image has no background to show through. Of several frames or pages the first is read. The
    content decides on the decoder, not the file's ending.

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
    head = data[:26].tobytes()
    if decode_image is not None and head.startswith(_JPEG_MAGIC):
        return _read_jpeg(data, path)
    if decode_image is not None and _is_deep_color_png(head):
        check_pixels(path, *struct.unpack(">II", head[16:24]))
        plain = torch.frombuffer(bytearray(sound_png(data.tobytes(), path)), dtype=torch.uint8)
        return _upright(_as_picture(decode_image(plain, mode=ImageReadMode.UNCHANGED)), path)
    return _read_with_pillow(path)


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


def _read_jpeg(data: np.ndarray, path: Path) -> Picture:
    """Torchvision reads JPEG three times faster than Pillow, and raises where it cannot."""
    try:
        with open_image(path, io.BytesIO(data.tobytes())) as header:
            cmyk = header.mode == "CMYK"
    except (*_PILLOW_ERRORS, UnidentifiedImageError):
        return _read_with_pillow(path)
    if cmyk:  # wants Pillow's conversion
        return _read_with_pillow(path)
    try:
        return _as_picture(
            decode_image(torch.from_numpy(data), mode=ImageReadMode.UNCHANGED, apply_exif_orientation=True)
        )
    except RuntimeError:
        return _read_with_pillow(path)  # strict decoders reject a few files that are merely odd


def _is_deep_color_png(head: bytes) -> bool:
    """Whether Pillow would drop half of the bits: byte 24 of a PNG is its depth, byte 25 its colour type."""
    return head.startswith(MAGIC) and len(head) == 26 and head[24] == 16 and head[25] in (2, 4, 6)


def _upright(picture: Picture, path: Path) -> Picture:
    """Apply the EXIF orientation, which `sound_png` leaves out."""
    with open_image(path) as header:
        orientation = header.getexif().get(0x0112, 1)
    if orientation == 1:
        return picture
    turned = [ImageOps.exif_transpose(_tagged(plane, orientation)) for plane in picture.pixels]
    return picture._replace(pixels=torch.stack([torch.from_numpy(np.array(plane)) for plane in turned]))


def _tagged(plane: Tensor, orientation: int) -> Image.Image:
    image = Image.fromarray(plane.contiguous().numpy())
    image.getexif()[0x0112] = orientation
    return image


def _as_picture(channels: Tensor) -> Picture:
    """`(1 to 4, H, W)` uint8 or uint16 to RGB: scale by depth, drop alpha, repeat grey."""
    if channels.dtype == torch.uint16:
        channels = ((channels.to(torch.int32) + 128) // 257).to(torch.uint8)  # 65535 / 257 = 255, rounded
    is_gray = channels.shape[0] <= 2
    pixels = channels[:1].expand(3, -1, -1) if is_gray else channels[:3]
    return Picture(pixels, is_gray)


def _read_with_pillow(path: Path) -> Picture:
    try:
        with open_image(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode == "F" or image.mode.startswith("I"):
                return _as_picture(_scale_deep(np.asarray(image), path))
            if image.mode in ("1", "L", "LA", "La"):
                return _as_picture(torch.from_numpy(np.array(image.convert("L")))[None])
            from_palette = image.mode in ("P", "PA")
            rgb = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image, or a format that Pillow cannot read; convert it to PNG.") from None
    except MemoryError:
        raise DataError(f"{path}: not enough memory to read it, or a damaged header.") from None
    except _PILLOW_ERRORS as error:
        raise DataError(f"{path}: unreadable or truncated image ({error}); download or copy it again.") from error
    if from_palette and torch.equal(rgb[0], rgb[1]) and torch.equal(rgb[0], rgb[2]):
        return _as_picture(rgb[:1])
    return _as_picture(rgb)


def _scale_deep(values: np.ndarray, path: Path) -> Tensor:
    """`(H, W)` 16-bit integers or floats in [0, 1] to `(1, H, W)` uint8."""
    low, high = float(values.min()), float(values.max())
    limit = 1.0 if values.dtype.kind == "f" else 65535.0
    if not (low >= 0.0 and high <= limit):  # also true for NaN
        raise DataError(f"{path}: values from {low:g} to {high:g} where 0 to {limit:g} was expected; save it as 8 bit.")
    return torch.from_numpy(np.rint(values.astype(np.float64) * (255.0 / limit)).astype(np.uint8))[None]


def _to_uint8_array(image: Tensor, path: Path) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise DataError(f"{path}: expected a (3, H, W) or (1, H, W) image to write, got shape {tuple(image.shape)}.")
    image = image.detach().cpu()
    if image.dtype != torch.uint8:
        if not bool(torch.isfinite(image).all()):
            raise DataError(f"{path}: the image to write has values that are not finite.")
        image = (image.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).contiguous().numpy()
