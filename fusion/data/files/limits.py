"""How large a picture may be: read from its header, before anything is decoded."""

import contextlib
import os
import warnings
from pathlib import Path
from typing import IO

from PIL import Image

from fusion.errors import ConfigError, DataError

MAX_PIXELS = 100_000_000
"""Default of `data.max_pixels`: a picture of 10,000 x 10,000 takes 0.3 GB decoded and 1.2 GB as float32."""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the limit here is the stricter one

_VARIABLE = "FUSION_MAX_PIXELS"


def set_max_pixels(pixels: int | None) -> None:
    """Set the limit of this process and of those it starts; the environment variable `FUSION_MAX_PIXELS` holds it.

    Args:
        pixels: width times height that is still read; None: `MAX_PIXELS`.
    """
    os.environ[_VARIABLE] = str(MAX_PIXELS if pixels is None else int(pixels))


def max_pixels() -> int:
    """The limit in force.

    Raises:
        ConfigError: the environment variable holds no positive number.
    """
    text = os.environ.get(_VARIABLE) or str(MAX_PIXELS)
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{_VARIABLE}={text}: expected a positive whole number")
    return int(text)


MOST_PLANES = 4
"""A picture of more planes (bands, components) may have so many times `data.max_pixels` values in all."""

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "TIFF", "WEBP", "AVIF", "PPM", "JPEG2000")
"""Of Pillow's formats those that are read: others start programs (EPS) or have decoders that few people look at."""


def check_pixels(path: str | Path, width: int, height: int, planes: int = 1) -> None:
    """Refuse a picture whose header announces more pixels than are read.

    Args:
        path: the file.
        width, height: in pixels.
        planes: bands or components that are decoded with them.

    Raises:
        DataError: names the file, its size and the key that raises the limit.
    """
    limit = max_pixels()
    if min(width, height) < 1:
        raise DataError(f"{path}: {width}x{height} pixels: an empty or damaged picture; download or copy it again.")
    if width * height > limit:
        raise DataError(
            f"{path}: {width}x{height} = {width * height:,} pixels, more than data.max_pixels={limit}; "
            "raise that if the file is what it says, or shrink it"
        )
    if width * height * planes > MOST_PLANES * limit:
        raise DataError(
            f"{path}: {width}x{height} pixels in {planes} planes, more than {MOST_PLANES} times data.max_pixels={limit}; "
            "raise that if the file is what it says, or split it"
        )


def open_image(path: str | Path, file: IO[bytes] | None = None) -> Image.Image:
    """`PIL.Image.open` under the one limit of this package, in place of Pillow's own.

    Args:
        path: the file, also for messages.
        file: its content, if it has been read already.

    Raises:
        DataError: too many pixels.
        OSError, ...: as Pillow raises them.
    """
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels() > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels()
    try:
        Image.init()
        image = Image.open(file if file is not None else path, formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: more than data.max_pixels={max_pixels()} ({error})") from None
    try:
        check_pixels(path, *image.size)
    except DataError:
        image.close()
        raise
    return image


def announced_pixels(path: str | Path) -> int | None:
    """Width times height by the header of a file, None where Pillow cannot tell."""
    with contextlib.suppress(Exception), Image.open(path) as image:  # what is wrong with it is for its reader to say
        return image.width * image.height
    return None
