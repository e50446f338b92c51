"""The file zoo: every kind of image a user may bring is read as 8-bit RGB, or refused by name."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.data import read_image, read_pair, write_image
from fusion.errors import ConfigError, DataError

from .conftest import picture

RGB = picture(0)
GRAY = picture(1, channels=1)


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).permute(2, 0, 1)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_rgb_is_read_unchanged(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(tmp_path / f"x{suffix}", RGB))
    assert torch.equal(image.pixels, as_tensor(RGB))
    assert not image.is_gray


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".pgm"])
def test_gray_is_repeated_and_reported(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(tmp_path / f"x{suffix}", GRAY))
    assert image.pixels.shape == (3, *GRAY.shape)
    assert torch.equal(image.pixels[2], torch.from_numpy(GRAY.copy()))
    assert image.is_gray


def test_jpeg_is_close_to_what_was_saved(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "x.jpg", RGB, quality=95, subsampling=0)).pixels
    assert (image.int() - as_tensor(RGB).int()).abs().float().mean() < 2


def test_the_content_decides_not_the_ending(tmp_path: Path) -> None:
    save(tmp_path / "really.png", RGB).rename(tmp_path / "really.jpg")
    assert torch.equal(read_image(tmp_path / "really.jpg").pixels, as_tensor(RGB))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_is_scaled_by_its_depth(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 128, 129, 257 * 100, 65535 - 128, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / f"x{suffix}")
    image = read_image(tmp_path / f"x{suffix}")
    assert image.pixels[0, 0].tolist() == [0, 0, 1, 100, 255, 255]
    assert image.is_gray


def test_16_bit_rgb_is_scaled_by_its_depth(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">6H", 0, 32896, 65535, 257, 514, 771)  # two pixels, Pillow cannot write such files
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(data)
    assert read_image(tmp_path / "x.png").pixels[:, 0].tolist() == [[0, 1], [128, 2], [255, 3]]


def test_palette_is_resolved(tmp_path: Path) -> None:
    indexed = Image.fromarray(RGB).quantize(16)
    indexed.save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    assert torch.equal(image.pixels, as_tensor(np.asarray(indexed.convert("RGB"))))
    assert not image.is_gray


def test_gray_palette_is_gray(tmp_path: Path) -> None:
    save(tmp_path / "x.png", GRAY, "P")
    image = read_image(tmp_path / "x.png")
    assert image.is_gray
    assert torch.equal(image.pixels[0], torch.from_numpy(GRAY.copy()))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_dropped(tmp_path: Path, suffix: str) -> None:
    alpha = np.full(RGB.shape[:2], 7, dtype=np.uint8)
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / f"rgba{suffix}")
    Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(alpha)]).save(tmp_path / f"la{suffix}")
    assert torch.equal(read_image(tmp_path / f"rgba{suffix}").pixels, as_tensor(RGB))
    gray = read_image(tmp_path / f"la{suffix}")
    assert gray.is_gray
    assert torch.equal(gray.pixels[0], torch.from_numpy(GRAY.copy()))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_converted(tmp_path: Path, suffix: str) -> None:
    black = np.full(RGB.shape[:2], 102, dtype=np.uint8)  # 40 % black ink
    inks = Image.merge("CMYK", [Image.fromarray(x) for x in (*np.moveaxis(255 - RGB, 2, 0), black)])
    inks.save(tmp_path / f"x{suffix}")
    image = read_image(tmp_path / f"x{suffix}")
    assert not image.is_gray
    assert (image.pixels.float() - 0.6 * as_tensor(RGB)).abs().mean() < 6


def test_black_and_white(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "x.png", GRAY, "1"))
    assert image.is_gray
    assert set(image.pixels.unique().tolist()) == {0, 255}


def test_float_tiff_is_taken_as_0_to_1_or_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif").pixels[0, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.array([[0.0, 293.4]], dtype=np.float32)).save(tmp_path / "kelvin.tif")
    with pytest.raises(DataError, match=r"kelvin\.tif: values from 0 to 293\.4 where 0 to 1 was expected"):
        read_image(tmp_path / "kelvin.tif")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise
    Image.fromarray(RGB).save(tmp_path / f"x{suffix}", exif=exif)
    height, width, _ = RGB.shape
    image = read_image(tmp_path / f"x{suffix}").pixels
    assert image.shape == (3, width, height)
    assert (image.int() - as_tensor(np.rot90(RGB, -1)).int()).abs().float().mean() < 10  # JPEG loses a little


@pytest.mark.parametrize(
    ("suffix", "options"), [(".jpg", {}), (".jpg", {"progressive": True}), (".png", {}), (".bmp", {})]
)
def test_truncated_files_are_refused_by_name(tmp_path: Path, suffix: str, options: dict) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP"}[suffix], **options)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    with pytest.raises(DataError, match=f"cut{suffix}: unreadable or truncated"):
        read_image(path)


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"empty\.png: the file is empty"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(DataError, match=r"text\.png: not an image"):
        read_image(tmp_path / "text.png")
    with pytest.raises(DataError, match=r"gone\.png: no such image file"):
        read_image(tmp_path / "gone.png")


def test_a_pixel_of_difference_in_size_is_refused_and_can_be_mended(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a.png", RGB), save(tmp_path / "b.png", RGB[:-1])
    with pytest.raises(DataError, match=r"a\.png is 32x24 and .*b\.png is 32x23; .*match_size=a"):
        read_pair(a, b)
    assert [p.pixels.shape[-2:] for p in read_pair(a, b, "a")] == [(24, 32), (24, 32)]
    assert [p.pixels.shape[-2:] for p in read_pair(a, b, "b")] == [(23, 32), (23, 32)]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("array", [RGB, GRAY], ids=["rgb", "gray"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, array: np.ndarray) -> None:
    original = torch.from_numpy(array.copy())[None] if array.ndim == 2 else as_tensor(array)
    path = write_image(tmp_path / f"new/folder/größe 1{suffix}", original.float() / 255)
    image = read_image(path)
    assert torch.equal(image.pixels, original.expand(3, -1, -1))
    assert image.is_gray == (array.ndim == 2)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_writing_clips_rounds_and_defaults_to_png(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x", torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 2.0]).view(1, 1, 4))
    assert path == tmp_path / "x.png"
    assert read_image(path).pixels[0, 0].tolist() == [0, 0, 1, 255]


def test_bad_images_to_write_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write '\.xyz' images"):
        write_image(tmp_path / "x.xyz", torch.zeros(3, 2, 2))
    with pytest.raises(DataError, match="not finite"):
        write_image(tmp_path / "x.png", torch.full((3, 2, 2), torch.nan))
    with pytest.raises(DataError, match=r"shape \(2, 2\)"):
        write_image(tmp_path / "x.png", torch.zeros(2, 2))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_image(tmp_path / "file/x.png", torch.zeros(3, 2, 2))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_stretching_is_said(tmp_path: Path) -> None:
    wide = save(tmp_path / "wide.png", np.zeros((40, 80), np.uint8))
    with pytest.warns(UserWarning, match="80x40 and 40x40 differ in shape, so match_size stretches"):
        read_pair(wide, save(tmp_path / "square.png", np.zeros((40, 40), np.uint8)), "a")
