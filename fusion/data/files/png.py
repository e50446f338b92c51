"""16-bit colour PNG files, proved sound before a decoder that cannot recover from damage sees them.

Pillow reads such files as 8 bit; torchvision keeps all bits, but its PNG decoder ends the process where a file is
damaged. A file that is taken apart here and put together again from its checked parts leaves it nothing to stumble over.
"""

import struct
import zlib
from pathlib import Path

import numpy as np

from fusion.errors import DataError

MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def sound_png(data: bytes, path: Path) -> bytes:
    """A PNG file without palette, reduced to its header and pixels, all of them verified.

    Args:
        data: the whole file.
        path: for messages.

    Raises:
        DataError: a checksum, a length or a value is wrong.
    """
    header, pixels = b"", []
    for name, content in _chunks(data, path):
        if name == b"IHDR" and not header:
            header = content
        elif name == b"IDAT":
            pixels.append(content)
        elif name == b"IEND":
            break
    if len(header) != 13 or not pixels:
        raise _damaged(path, "no header or no pixels")
    width, height, depth, kind, compression, filtering, interlace = struct.unpack(">IIBBBBB", header)
    if kind not in _CHANNELS or depth not in (8, 16) or compression or filtering or interlace > 1 or not width * height:
        raise _damaged(path, "its header")
    passes = [(width, height)] if not interlace else [
        (-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _ADAM7
    ]  # fmt: skip
    _check_rows(b"".join(pixels), [p for p in passes if min(p) > 0], _CHANNELS[kind] * depth // 8, path)
    parts = [(b"IHDR", header), (b"IDAT", b"".join(pixels)), (b"IEND", b"")]
    return MAGIC + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def _chunks(data: bytes, path: Path):  # type: ignore[no-untyped-def]
    place = len(MAGIC)
    while place + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[place : place + 8])
        end = place + 8 + length
        if end + 4 > len(data):
            raise _damaged(path, "it is cut short")
        content = data[place + 8 : end]
        if zlib.crc32(name + content) != struct.unpack(">I", data[end : end + 4])[0]:
            raise _damaged(path, f"checksum of {name!r}")
        yield name, content
        place = end + 4


def _check_rows(packed: bytes, passes: list[tuple[int, int]], pixel: int, path: Path) -> None:
    """Unpacks to exactly as many rows as announced, each with a known filter."""
    expected = sum(height * (1 + width * pixel) for width, height in passes)
    unpacker = zlib.decompressobj()
    try:
        rows = unpacker.decompress(packed, expected + 1)
    except zlib.error as error:
        raise _damaged(path, str(error)) from error
    if len(rows) != expected or not unpacker.eof or unpacker.unused_data:
        raise _damaged(path, "its pixels are not as many as announced")
    place, values = 0, np.frombuffer(rows, np.uint8)
    for width, height in passes:
        end = place + height * (1 + width * pixel)
        if values[place:end].reshape(height, -1)[:, 0].max() > 4:
            raise _damaged(path, "unknown filter")
        place = end


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path}: unreadable or truncated image ({what}); download or copy it again.")
