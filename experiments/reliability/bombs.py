"""Pictures whose headers lie, that grow without end when they are unpacked, or that would start something: all refused.

Each is small on the disk. What reads them with `data.max_pixels` of a few million stays within tens of megabytes.
"""

import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIDE = 20_000
"""Width and height of what the headers announce: 400 million pixels."""


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, side: int = 4) -> bytes:
    """A grey PNG with further chunks behind its header."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    rows = zlib.compress(bytes((side + 1) * min(side, 100)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(tags: dict[int, tuple[int, int, int]], tail: bytes = b"", follow: int = 0) -> bytes:
    """A little-endian TIFF of one directory.

    Args:
        tags: (type, count, value or offset) by number, beside those of a grey 8-bit picture of 4x4 in one strip.
        tail: bytes behind the directory, at `8 + 2 + 12 * number of tags + 4`.
        follow: offset of the next directory.
    """
    base = {256: (4, 1, 4), 257: (4, 1, 4), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8), 277: (3, 1, 1),
            278: (4, 1, 4), 279: (4, 1, 16)}  # fmt: skip
    every = dict(sorted((base | tags).items()))
    entries = b"".join(struct.pack("<HHII", code, *entry) for code, entry in every.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(every)) + entries + struct.pack("<I", follow) + tail + bytes(64)


def deflated_tiff(samples: int) -> bytes:
    """One strip of zeros that unpacks to `SIDE` x 100 pixels of so many samples."""
    packed = zlib.compress(bytes(SIDE * 100 * samples))
    place = 8 + 2 + 12 * 9 + 4
    return tiff({256: (4, 1, SIDE), 257: (4, 1, 100), 259: (3, 1, 8), 273: (4, 1, place), 277: (3, 1, samples),
                 278: (4, 1, 100), 279: (4, 1, len(packed))}, packed)  # fmt: skip


def npy(shape: object, kind: str = "|u1", data: bytes = b"") -> bytes:
    """A NumPy file whose header says what it likes."""
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64 + 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def npz(content: bytes, name: str = "arr_0.npy", zeros: int = 0) -> bytes:
    """A packed NumPy file; so many zeros follow the content."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(name, "w") as part:
        part.write(content)
        for _ in range(zeros >> 20):
            part.write(bytes(1 << 20))
    return made.getvalue()


def nifti(*dims: int, offset: float = 352.0) -> bytes:
    """A NIfTI header with so many dimensions, and a little data."""
    head = bytearray(348)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(dims), *dims, *[1] * (7 - len(dims)))
    struct.pack_into("<hh", head, 70, 2, 8)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<f", head, 108, offset)
    head[344:348] = b"n+1\0"
    return bytes(head) + bytes(4 + 4096)


def fits(*sides: int, data: bytes = bytes(2880)) -> bytes:
    """A FITS header with so many axes, and a little data."""
    cards = ["SIMPLE  =                    T", "BITPIX  =                    8", f"NAXIS   = {len(sides):20d}"]
    cards += [f"NAXIS{number}  = {side:20d}" for number, side in enumerate(sides, 1)]
    return "".join(card.ljust(80) for card in [*cards, "END"]).ljust(2880).encode() + data


def jxl(width: int, height: int, boxed: bool = False) -> bytes:
    """The size header of a JPEG XL picture, alone or in boxes."""
    bits, used = 0, 0
    for value, count in ((0, 1), (3, 2), (height - 1, 30), (0, 3), (3, 2), (width - 1, 30)):
        bits |= value << used
        used += count
    stream = b"\xff\x0a" + bits.to_bytes(-(-used // 8), "little") + bytes(32)
    if not boxed:
        return stream
    types = struct.pack(">I4s", 20, b"ftyp") + b"jxl \0\0\0\0jxl "
    parts = [struct.pack(">I4sI", 12 + len(p), b"jxlp", n) + p for n, p in enumerate((stream[:5], stream[5:]))]
    return b"\0\0\0\x0cJXL \r\n\x87\n" + types + b"".join(parts)


def jp2(width: int, height: int, components: int = 1, boxed: bool = False) -> bytes:
    """The size marker of a JPEG 2000 picture, alone or in boxes."""
    sizes = struct.pack(">H8IH", 0, width, height, 0, 0, width, height, 0, 0, components) + b"\x07\x01\x01" * components
    stream = b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(sizes)) + sizes + bytes(64)
    if not boxed:
        return stream
    types = struct.pack(">I4s", 20, b"ftyp") + b"jp2 \0\0\0\0jp2 "
    return b"\0\0\0\x0cjP  \r\n\x87\n" + types + struct.pack(">I4s", 0, b"jp2c") + stream


def exr(path: Path, width: int, height: int, channels: int = 1) -> bytes:
    """An OpenEXR file of 4x4 whose header is changed afterwards."""
    import OpenEXR

    plane = np.zeros((4, 4), np.float16)
    OpenEXR.File({}, {f"c{index}": plane for index in range(channels)}).write(str(path))
    data = bytearray(path.read_bytes())
    place = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    struct.pack_into("<4i", data, place, 0, 0, width - 1, height - 1)
    return bytes(data)


class _Touch:
    """A pickle that leaves a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


def _alone(name: str) -> str:
    """A name with a stem of its own, so that each finds its pair."""
    stem, ending = name.split(".", 1)
    return f"{stem}_{ending.replace('.', '_')}.{ending}"


def pictures(folder: Path, marker: Path) -> list[Path]:
    """Write them all.

    Args:
        folder: gets them.
        marker: file that those leave that would run something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    zeros = zlib.compress(bytes(200 << 20), 1)
    script = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({marker}) (w) file closefile\nshowpage\n"
    hdr = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n" + b"# x\n" * 2000
    inside = "FORMAT=32-bit_rle_rgbe"
    made: dict[str, bytes] = {
        "crc.png": png().replace(b"IHDR\0\0\0\x04", b"IHDR\0\0\0\x05"),
        "ztxt.png": png(chunk(b"zTXt", b"Comment\0\0" + zeros)),
        "itxt.png": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros)),
        "text.png": png(*[chunk(b"tEXt", b"a\0" + b"x" * 900_000)] * 80),
        "icc.png": png(chunk(b"iCCP", b"profile\0\0" + zeros)),
        "wide.png": png(side=SIDE),
        "cycle.tif": tiff({}, follow=8),
        "samples.tif": tiff({256: (4, 1, 1900), 257: (4, 1, 1900), 277: (3, 1, 65535), 284: (3, 1, 2)}),
        "bands.tif": deflated_tiff(30),
        "count.tif": tiff({270: (2, 2**31 - 1, 8), 273: (4, 2**31 - 1, 8)}),
        "side.tif": tiff({256: (4, 1, SIDE), 257: (4, 1, SIDE)}),
        "minus.tif": tiff({256: (9, 1, 2**32 - 4)}),
        "pickle.npy": npy((4, 4), "|O", pickle.dumps(_Touch(marker))),
        "plain_pickle.npy": pickle.dumps(_Touch(marker)),
        "side.npy": npy((10**9, 10**9)),
        "minus.npy": npy((-4, 4)),
        "line.npy": npy((2**40,)),
        "item.npy": npy((4, 4), "|V1000000000"),
        "fields.npy": npy((4, 4), "[('a', '<f8'), ('b', '<f8')]"),  # type: ignore[arg-type]
        "header.npy": npy("(" * 3000 + ")" * 3000),
        "bomb.npz": npz(npy((SIDE, SIDE)), zeros=SIDE * SIDE),
        "planes.npz": npz(npy((1000, 1000, 2000))),
        "text.npz": npz(b"no array", zeros=1 << 28),
        "pickle.npz": npz(npy((4, 4), "|O", pickle.dumps(_Touch(marker)))),
        "two_faces.npy": npy((SIDE, SIDE)) + npz(npy((4, 4), data=bytes(16))),
        "minus.nii": nifti(-4, 4, 4),
        "side.nii": nifti(32767, 32767),
        "offset.nii": nifti(40, 40, offset=1e18),
        "dims.nii": nifti(40, 40, 4, 32767, 32767),
        "cut.nii.gz": gzip.compress(nifti(60, 60, 3))[:-20],
        "minus.fits": fits(-4, 4),
        "side.fits": fits(SIDE, SIDE),
        "cube.fits": fits(100, 100, 10**9, data=b""),
        "late.hdr": hdr + b"\n-Y 20000 +X 20000\n" + bytes(64),
        "comment.hdr": f"#?RADIANCE\n{inside}\n-Y 4 +X 4\n\n-Y {SIDE} +X {SIDE}\n".encode() + bytes(64),
        "none.hdr": hdr + b"\n" + bytes(64),
        "side.jxl": jxl(SIDE, SIDE),
        "boxes.jxl": jxl(2**30, 2**30, boxed=True),
        "cut.jxl": jxl(SIDE, SIDE)[:4],
        "side.j2k": jp2(SIDE, SIDE),
        "boxes.jp2": jp2(2**31, 2**31, boxed=True),
        "components.j2k": jp2(1900, 1900, 16_384),
        "comment.jp2": jp2(4, 4)[:2] + b"\xff\x64\0\x04\0\1" + jp2(SIDE, SIDE)[2:],
        "program.eps": script.encode(),
        "program.png": script.encode(),
        "photoshop.psd": b"8BPS" + bytes(100),
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "entity.png": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "line\nbreak.png": b"x",
    }  # fmt: skip
    try:
        spare = folder / "spare.exr"
        made |= {"side.exr": exr(spare, SIDE, SIDE), "minus.exr": exr(spare, -4, 4), "wrap.exr": exr(spare, 2**31 - 1, 2),
                 "channels.exr": exr(spare, 1900, 1900, 300)}  # fmt: skip
        spare.unlink()
    except ModuleNotFoundError:
        pass
    for name, data in made.items():
        (folder / _alone(name)).write_bytes(data)
    for name, head, size in (
        ("sparse.npy", npy((1000, 1000, 5000)), 5 * 10**9),
        ("sparse.fits", fits(1000, 100_000, data=b""), 10**8),
    ):
        with (folder / _alone(name)).open("wb") as file:  # holes: nothing of it on the disk
            file.write(head)
            file.truncate(size)
    return sorted(folder.iterdir())
