"""150 picture files that should not be trusted: damaged, cut, mislabelled, bombs; the same ones every time."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (64, 48)
KINDS = ("png", "png16", "jpeg", "tiff", "bmp", "gif", "webp", "ppm")


def picture(seed: int = 0) -> np.ndarray:
    """`(48, 64, 3)` uint8 with structure and noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 200, (6, 8, 3)).repeat(8, 0).repeat(8, 1)
    return (coarse + generator.integers(0, 40, coarse.shape)).astype(np.uint8)


def encode(kind: str, seed: int = 0) -> bytes:
    """A sound file of a kind."""
    if kind == "png16":
        return png(picture(seed).astype(np.uint16) * 257)
    data = io.BytesIO()
    Image.fromarray(picture(seed)).save(data, "TIFF" if kind == "tiff" else kind.upper())
    return data.getvalue()


def png(values: np.ndarray, width: int | None = None, height: int | None = None, rows: bytes | None = None) -> bytes:
    """An RGB PNG file, written by hand so that its header may lie about its size and its rows be wrong.

    Args:
        values: `(H, W, 3)` uint8 or uint16.
        width, height: what the header says.
        rows: unpacked scan lines in place of those of `values`.
    """
    deep = values.dtype == np.uint16
    lines = values.astype(">u2" if deep else np.uint8)
    if rows is None:
        rows = b"".join(b"\0" + line.tobytes() for line in lines)
    header = struct.pack(">IIBBBBB", width or values.shape[1], height or values.shape[0], 16 if deep else 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c))
        for n, c in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def huge_jpeg() -> bytes:
    """A JPEG whose header says 65500 x 65500."""
    data = bytearray(encode("jpeg"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


def hostile_files(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Write 150 files and say of each whether it surely must be refused (bit flips may leave a readable picture)."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    made: list[tuple[str, bytes, bool]] = []
    for kind in KINDS:
        sound = encode(kind)
        suffix = kind.removesuffix("16")
        for number in range(7):
            data = bytearray(sound)
            for _ in range(5):
                data[generator.randrange(8, len(data))] ^= 1 << generator.randrange(8)
            made.append((f"flip_{kind}_{number}.{suffix}", bytes(data), False))
        for number in range(5):
            made.append(
                (f"cut_{kind}_{number}.{suffix}", sound[: generator.randrange(4, len(sound) // 2)], kind != "gif")
            )
        for number in range(3):
            data = bytearray(sound)
            place = generator.randrange(12, len(data) - 24)
            data[place : place + 20] = generator.randbytes(20)
            made.append((f"noise_{kind}_{number}.{suffix}", bytes(data), False))
        made.append((f"head_{kind}.{suffix}", sound[:8] + generator.randbytes(200), kind not in ("ppm", "bmp")))
    values = picture()
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    made += [
        ("huge.png", png(values, 100_000, 100_000), True),
        ("huge16.png", png(values.astype(np.uint16), 60_000, 60_000), True),
        ("huge.jpg", huge_jpeg(), True),
        ("huge.bmp", encode("bmp")[:18] + struct.pack("<ii", 60_000, 60_000) + encode("bmp")[26:], True),
        ("huge.ppm", b"P6 50000 50000 255\n" + bytes(100), True),
        ("huge.gif", encode("gif")[:6] + struct.pack("<HH", 65_000, 65_000) + encode("gif")[10:], True),
        ("filter.png", png(values, rows=b"\x09" + lines[1:]), True),
        ("filter16.png", png(values.astype(np.uint16), rows=b"\x09" + bytes(64 * 6)), True),
        ("short.png", png(values, rows=lines[:100]), True),
        ("empty.png", b"", True),
        ("text.png", b"<html>not found</html>", True),
        ("zip.png", b"PK\x03\x04" + bytes(100), True),
        ("magic.png", b"\x89PNG\r\n\x1a\n", True),
        ("script.jpg", b"#!/bin/sh\ntouch /tmp/never\n", True),
        ("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", True),
        ("mirror.jpg", encode("png"), False),
        ("zeros.tif", bytes(4_096), True),
        ("ff.jpg", b"\xff" * 4_096, True),
        ("loop.tif", b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8), True),
        ("random.webp", b"RIFF\x10\0\0\0WEBP" + generator.randbytes(64), True),
        ("random.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + generator.randbytes(64), True),
        ("end.jpg", b"\xff\xd8\xff\xd9", True),
    ]
    assert len(made) == 150
    for name, data, refused in made:
        (folder / name).write_bytes(data)
        yield folder / name, refused
