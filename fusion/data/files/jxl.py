"""The size of a JPEG XL picture, read from its first bytes (ISO/IEC 18181-1, SizeHeader; 18181-2, boxes)."""

import struct
from pathlib import Path

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width over height, by the header's 3-bit number less one."""
_BITS = (9, 13, 18, 30)
_ENOUGH = 16
"""Bytes of the codestream that hold its size header: signature and at most 69 bits."""
_MOST_BOXES = 1000


def jxl_size(path: Path) -> tuple[int, int]:
    """Width and height as the header has them, before the orientation is applied.

    Raises:
        ValueError: no JPEG XL, or cut within the header.
        OSError: the file cannot be read.
    """
    head = _codestream(path)
    if not head.startswith(CODESTREAM) or len(head) < 3:
        raise ValueError("no JPEG XL codestream in it")
    bits, width = _Bits(head[2:]), 0
    small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if small else _length(bits)
    ratio = bits.take(3)
    if ratio:
        over, under = _RATIOS[ratio - 1]
        width = height * over // under
    else:
        width = 8 * (bits.take(5) + 1) if small else _length(bits)
    return width, height


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
        start = file.read(len(CONTAINER))
        if start != CONTAINER:
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
            if kind in (b"jxlc", b"jxlp"):
                if kind == b"jxlp":
                    file.read(4)  # number of the part
                room = _ENOUGH if end is None else max(0, min(_ENOUGH, end - file.tell()))
                found += file.read(room)
            if end is None or end < content or kind == b"jxlc":
                break
            file.seek(end)
        return found
