"""Sizes of JPEG XL and JPEG 2000 pictures, read from their first bytes: their decoders tell them only when they are done.

JPEG XL: ISO/IEC 18181-1, SizeHeader, and 18181-2, boxes. JPEG 2000: ISO/IEC 15444-1, SIZ marker and boxes.
"""

import struct
from pathlib import Path

JXL = b"\xff\x0a"
JP2 = b"\xff\x4f\xff\x51"
_CONTAINERS = (b"\0\0\0\x0cJXL \r\n\x87\n", b"\0\0\0\x0cjP  \r\n\x87\n")

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width over height, by the header's 3-bit number less one."""
_BITS = (9, 13, 18, 30)
_ENOUGH = 64
"""Bytes of a codestream that hold its size."""
_MOST_BOXES = 1000


def jxl_size(path: Path) -> tuple[int, int]:
    """Width and height of a JPEG XL picture, before its orientation is applied.

    Raises:
        ValueError: no JPEG XL, or cut within the header.
        OSError: the file cannot be read.
    """
    head = _codestream(path)
    if not head.startswith(JXL):
        raise ValueError("no JPEG XL codestream in it")
    bits = _Bits(head[2:])
    small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if small else _length(bits)
    ratio = bits.take(3)
    if ratio:
        over, under = _RATIOS[ratio - 1]
        return height * over // under, height
    return (8 * (bits.take(5) + 1) if small else _length(bits)), height


def jp2_size(path: Path) -> tuple[int, int, int]:
    """Width, height and number of components of a JPEG 2000 picture.

    Raises:
        ValueError: no JPEG 2000, or cut within the header.
        OSError: the file cannot be read.
    """
    head = _codestream(path)
    if not head.startswith(JP2) or len(head) < 42:
        raise ValueError("no JPEG 2000 codestream in it")
    right, lower, left, upper = struct.unpack(">4I", head[8:24])
    return right - left, lower - upper, struct.unpack(">H", head[40:42])[0]


class _Bits:
    """Bits of some bytes, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("cut within its header")
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return taken


def _length(bits: _Bits) -> int:
    return 1 + bits.take(_BITS[bits.take(2)])


def _codestream(path: Path) -> bytes:
    """The first bytes of the codestream, out of its boxes where it has any."""
    with path.open("rb") as file:
        start = file.read(12)
        if start not in _CONTAINERS:
            return start + file.read(_ENOUGH)
        found = b""
        for _ in range(_MOST_BOXES):
            place = file.tell()
            header = file.read(8)
            if len(header) < 8 or len(found) >= _ENOUGH:
                break
            size, kind = struct.unpack(">I4s", header)
            if size == 1:
                wide = file.read(8)
                if len(wide) < 8:
                    break
                size = struct.unpack(">Q", wide)[0]
            content = file.tell()
            end = place + size if size else None  # 0: up to the end of the file
            if kind in (b"jxlc", b"jxlp", b"jp2c"):
                if kind == b"jxlp":
                    file.read(4)  # number of the part
                room = _ENOUGH if end is None else max(0, min(_ENOUGH, end - file.tell()))
                found += file.read(room)
            if end is None or end < content or kind in (b"jxlc", b"jp2c"):
                break
            file.seek(end)
        return found
