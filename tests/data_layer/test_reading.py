"""Every kind of file keeps its values, its bands, its alpha and its gaps, or is refused by name."""

import gzip
import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from fusion.data import read_image
from fusion.data.files.ranges import scale_of
from fusion.data.files.reading import read_raster
from fusion.errors import ConfigError, DataError

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (10, 14, 3), dtype=np.uint8)
GRAY = np.ascontiguousarray(RGB[..., 1])
RGB16, GRAY16 = RGB.astype(np.uint16) * 257, GRAY.astype(np.uint16) * 257
NIR = np.roll(GRAY16, 3, 1)

TIFFS = {
    "rgb8_planar": (RGB.transpose(2, 0, 1), RGB, {"photometric": "rgb", "planarconfig": "separate"}),
    "rgb16": (RGB16, RGB16, {"photometric": "rgb"}),
    "rgb16_planar": (RGB16.transpose(2, 0, 1), RGB16, {"photometric": "rgb", "planarconfig": "separate"}),
    "rgb16_planar_deflate": (
        RGB16.transpose(2, 0, 1), RGB16, {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"},
    ),
    "rgb16_lzw": (RGB16, RGB16, {"photometric": "rgb", "compression": "lzw", "predictor": True}),
    "rgb16_be": (RGB16.astype(">u2"), RGB16, {"photometric": "rgb", "byteorder": ">"}),
    "rgb16_tiled": (np.tile(RGB16, (4, 4, 1)), np.tile(RGB16, (4, 4, 1)), {"photometric": "rgb", "tile": (16, 16)}),
    "gray16_be": (GRAY16.astype(">u2"), GRAY16, {"byteorder": ">"}),
    "gray8_white": (255 - GRAY, GRAY, {"photometric": "miniswhite"}),
    "gray16_white": (65535 - GRAY16, GRAY16, {"photometric": "miniswhite"}),
    "gray_u32": (GRAY.astype(np.uint32) * 16843009, GRAY.astype(np.uint32) * 16843009, {}),
    "gray_f16": ((GRAY / 255).astype(np.float16), (GRAY / 255).astype(np.float16).astype(np.float32), {}),
    "gray_f32_be": ((GRAY / 255).astype(">f4"), (GRAY / 255).astype(np.float32), {"byteorder": ">"}),
    "gray_f64": (GRAY / 255, GRAY / 255, {}),
    "rgb_f32": ((RGB / 255).astype(np.float32), (RGB / 255).astype(np.float32), {"photometric": "rgb"}),
}  # fmt: skip


def planes(array: np.ndarray) -> np.ndarray:
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@pytest.mark.parametrize("kind", TIFFS)
def test_tiff_keeps_its_values(tmp_path: Path, kind: str) -> None:
    stored, truth, options = TIFFS[kind]
    tifffile.imwrite(tmp_path / "x.tif", np.ascontiguousarray(stored), **{"photometric": "minisblack", **options})
    raster = read_raster(tmp_path / "x.tif")
    assert raster.planes.dtype == truth.dtype.newbyteorder("=") and np.array_equal(raster.planes, planes(truth))
    assert raster.channels == ("gray" if truth.ndim == 2 else "rgb")
    eight = read_image(tmp_path / "x.tif").pixels.int()
    expected = np.broadcast_to(planes(GRAY if truth.ndim == 2 else RGB), (3, 10, 14)).astype(int)
    if kind != "rgb16_tiled":
        assert (eight - torch.from_numpy(expected.copy())).abs().max() <= (1 if "f16" in kind else 0)


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fourth_band_is_a_band_and_no_ink_nor_alpha(tmp_path: Path, photometric: str, dtype: type) -> None:
    bands = np.dstack([RGB16, NIR]) if dtype is np.uint16 else np.dstack([RGB, (NIR // 257).astype(np.uint8)])
    extra = {"extrasamples": ["unspecified"]} if photometric == "rgb" else {}
    tifffile.imwrite(tmp_path / "ms.tif", bands, photometric=photometric, planarconfig="contig", **extra)
    raster = read_raster(tmp_path / "ms.tif")
    assert raster.channels == "bands" and raster.alpha is None
    assert np.array_equal(raster.planes, bands.transpose(2, 0, 1))
    assert np.array_equal(read_image(tmp_path / "ms.tif").pixels, RGB.transpose(2, 0, 1))


def test_four_planes_marked_as_inks_are_bands_where_they_are_asked_for_as_such(tmp_path: Path) -> None:
    inks = np.dstack([RGB, GRAY])
    tifffile.imwrite(tmp_path / "ms.tif", inks, photometric="separated", extrasamples=[])
    assert read_raster(tmp_path / "ms.tif").channels == "rgb"
    assert "bands=each" in " ".join(read_raster(tmp_path / "ms.tif").notes)
    assert np.array_equal(read_raster(tmp_path / "ms.tif", inks_as_bands=True).planes, inks.transpose(2, 0, 1))


def test_alpha_is_kept_beside_the_colours(tmp_path: Path) -> None:
    for name, picture in (("rgba.png", np.dstack([RGB, GRAY])), ("la.png", np.dstack([GRAY, GRAY]))):
        Image.fromarray(picture).save(tmp_path / name)
        raster = read_raster(tmp_path / name)
        assert np.array_equal(raster.planes, planes(picture[..., :-1]))
        assert raster.alpha is not None and np.array_equal(np.rint(raster.alpha * 255), GRAY)
    tifffile.imwrite(tmp_path / "x.tif", np.dstack([RGB16, GRAY16]), photometric="rgb", extrasamples=["unassalpha"])
    raster = read_raster(tmp_path / "x.tif")
    assert raster.alpha is not None and np.array_equal(np.rint(raster.alpha * 65535), GRAY16)
    clear = np.full((10, 14), 128, np.uint8)
    half = (RGB.astype(int) * 128 // 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "pre.tif", np.dstack([half, clear]), photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(read_raster(tmp_path / "pre.tif").planes.astype(int) - RGB.transpose(2, 0, 1)).max() <= 2


def test_pages_are_counted_and_said(tmp_path: Path) -> None:
    stack = np.stack([np.roll(GRAY, shift, 1) for shift in range(5)])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    first = read_raster(tmp_path / "stack.tif")
    assert first.pages == 5 and "5 pages, page 0" in first.notes[0]
    assert np.array_equal(read_raster(tmp_path / "stack.tif", 3).planes[0], stack[3])
    with pytest.raises(DataError, match="has 5 page"):
        read_raster(tmp_path / "stack.tif", 5)
    with pytest.warns(UserWarning, match="5 pages"):
        assert torch.equal(read_image(tmp_path / "stack.tif").pixels[0], torch.from_numpy(GRAY))


def test_missing_data_is_known(tmp_path: Path) -> None:
    holed = (GRAY / 255).astype(np.float32)
    holed[2:4] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", holed)
    raster = read_raster(tmp_path / "nan.tif")
    assert raster.valid is not None and not raster.valid[2:4].any() and raster.valid[4:].all()
    marked = GRAY16.copy() + 1
    marked[:2] = 0
    tifffile.imwrite(tmp_path / "nodata.tif", marked, extratags=[(42113, "s", 0, "0", True)])
    raster = read_raster(tmp_path / "nodata.tif")
    assert raster.nodata == 0 and raster.valid is not None and raster.valid.mean() == pytest.approx(0.8)


def test_pictures_without_any_value_are_refused(tmp_path: Path) -> None:
    nothing = np.full((20, 24), np.nan, np.float32)
    tifffile.imwrite(tmp_path / "nan.tif", nothing)
    np.save(tmp_path / "nan.npy", nothing)
    tifffile.imwrite(tmp_path / "nodata.tif", np.zeros((20, 24), np.uint16), extratags=[(42113, "s", 0, "0", True)])
    for name in ("nan.tif", "nan.npy", "nodata.tif"):
        for read in (read_raster, read_image):
            with pytest.raises(DataError, match=rf"{name}: has no pixel with a value"):
                read(tmp_path / name)


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_applied_once(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=exif)
    tifffile.imwrite(tmp_path / "x.tif", RGB16, photometric="rgb", extratags=[(274, "H", 1, turn, True)])
    a, b = read_raster(tmp_path / "x.png"), read_raster(tmp_path / "x.tif")
    assert np.array_equal(a.planes.astype(int) * 257, b.planes)
    assert a.size == ((10, 14) if turn < 5 else (14, 10))
    assert a.metadata.exif is None  # nothing but the orientation was in it, and that is done


def test_other_colour_models(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB)
    lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    ImageCms.applyTransform(picture, lab).save(tmp_path / "lab.tif")
    picture.convert("CMYK").save(tmp_path / "cmyk.tif")
    picture.quantize(256).save(tmp_path / "palette.png")
    for name, close in (("lab.tif", 8), ("cmyk.tif", 1), ("palette.png", 40)):
        raster = read_raster(tmp_path / name)
        assert raster.channels == "rgb"
        assert np.abs(raster.planes.astype(int) - RGB.transpose(2, 0, 1)).mean() < close, name


def test_array_formats(tmp_path: Path) -> None:
    unit = (GRAY / 255).astype(np.float32)
    np.save(tmp_path / "x.npy", unit)
    np.savez(tmp_path / "x.npz", unit)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 14, 10, 4, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    volume = np.stack([np.roll(unit, k, 1) for k in range(4)])
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(bytes(header) + volume.tobytes()))
    for name in ("x.npy", "x.npz"):
        assert np.array_equal(read_raster(tmp_path / name).planes[0], unit), name
    pytest.importorskip("nibabel")
    middle = read_raster(tmp_path / "x.nii.gz")
    assert np.array_equal(middle.planes[0], volume[2]) and middle.pages == 4 and "slice 2" in middle.notes[0]
    assert np.array_equal(read_raster(tmp_path / "x.nii.gz", 0).planes[0], unit)


def test_fits_and_radiance(tmp_path: Path) -> None:
    def card(text: str) -> bytes:
        return text.ljust(80).encode()

    cards = ["SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    2",
             f"NAXIS1  = {14:20d}", f"NAXIS2  = {10:20d}", "BZERO   =              32768.0", "END"]  # fmt: skip
    head = b"".join(card(text) for text in cards)
    data = (GRAY16.astype(int) - 32768).astype(">i2").tobytes()
    (tmp_path / "x.fits").write_bytes(head + b" " * (-len(head) % 2880) + data + b"\0" * (-len(data) % 2880))
    rgbe = np.dstack([RGB, np.full(GRAY.shape, 128, np.uint8)])
    header = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 10 +X 14\n"
    (tmp_path / "x.hdr").write_bytes(header + rgbe.tobytes())
    hdr = read_raster(tmp_path / "x.hdr")
    assert hdr.depth == "float" and np.allclose(hdr.planes, RGB.transpose(2, 0, 1) / 256, atol=1 / 256)
    pytest.importorskip("astropy")
    assert np.array_equal(read_raster(tmp_path / "x.fits").planes[0], GRAY16)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("clip.mp4", b"\0\0\0\x18ftypmp42" + b"\0" * 200, "a video"),
        ("photo.heic", b"\0\0\0\x18ftypheic" + b"\0" * 200, "HEIC cannot be read"),
        ("a.exr", struct.pack("<II", 20000630, 2) + b"\0" * 100, "OpenEXR|unreadable"),
        ("a.exr", b"nothing", "not a OpenEXR file"),
        ("scan.dcm", b"\0" * 300, "DICOM"),
        ("a.npy", b"x" * 50, "not a NumPy file"),
        ("a.psd", b"8BPS" + b"\0" * 50, "Photoshop"),
        ("text.png", b"hello", "not an image"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_raster(tmp_path / name)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy"):
        read_raster(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jp2", ".webp", ".avif", ".jxl", ".npy", ".hdr", ".ppm"])
def test_damaged_files_raise_and_do_nothing_else(tmp_path: Path, suffix: str) -> None:
    from fusion.data.files.raster import Raster
    from fusion.data.files.writing import write_raster

    limits = (0.0, 1.0) if suffix == ".hdr" else (0.0, 65535.0)
    values = (RGB16 / 65535).astype(np.float32) if suffix == ".hdr" else RGB16
    write_raster(tmp_path / f"x{suffix}", Raster(values.transpose(2, 0, 1), "rgb", limits))
    whole, chance = (tmp_path / f"x{suffix}").read_bytes(), random.Random(2)
    for attempt in range(24):
        broken = bytearray(whole)
        if attempt % 3:
            for _ in range(4):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
        else:
            broken = broken[: chance.randrange(1, len(broken))]
        (tmp_path / f"y{suffix}").write_bytes(broken)
        try:
            read_raster(tmp_path / f"y{suffix}")
        except DataError as error:
            assert f"y{suffix}" in str(error)


# Ranges --------------------------------------------------------------------------------------------------------------


def thermal(folder: Path, low: int = 7200, span: int = 1016) -> Path:
    """Radiometric counts: few of the 65536 values of the container."""
    path = folder / "thermal.tiff"
    tifffile.imwrite(path, (low + GRAY / 255 * span).astype(np.uint16))
    return path


def test_a_narrow_source_is_warned_about_with_the_option_that_mends_it(tmp_path: Path) -> None:
    raster = read_raster(thermal(tmp_path))
    scale, said = scale_of(raster, "auto", "range.b")
    assert scale == (0, 65535) and len(said) == 1
    assert (
        said[0].startswith("warning: ") and "range.b=minmax" in said[0] and "1.5 % of the range 0 to 65535" in said[0]
    )
    assert scale_of(raster, [7000, 9000], "range.b")[1] == []
    stretched, said = scale_of(raster, "minmax", "range.b")
    unit = stretched.to_unit(raster.planes)
    assert said == [] and unit.min() == 0 and unit.max() == 1 and len(np.unique(unit)) == len(np.unique(raster.planes))


def test_ranges(tmp_path: Path) -> None:
    celsius = (-3 + 40 * GRAY / 255).astype(np.float32)
    celsius[0, 0] = 900  # a hot pixel
    tifffile.imwrite(tmp_path / "c.tif", celsius)
    raster = read_raster(tmp_path / "c.tif")
    scale, said = scale_of(raster)
    assert scale == (celsius.min(), 900) and "range=[low,high]" in said[0]
    assert scale_of(raster, "percentile")[0].high < 900
    assert scale_of(raster, [0, 20])[0].to_unit(np.float32([-5, 10, 30, np.nan])).tolist() == [0, 0.5, 1, 0]
    with pytest.raises(DataError, match="full range the file does not say"):
        scale_of(raster, "full")
    with pytest.raises(DataError, match="all outside"):
        scale_of(raster, [2000, 3000])
    for wrong in ("most", [3, 1], [1, 2, 3], 7):
        with pytest.raises(ConfigError, match="range"):
            scale_of(raster, wrong)  # type: ignore[arg-type]


def test_eight_bit_values_are_those_of_training(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.png")
    raster = read_raster(tmp_path / "x.png")
    unit = scale_of(raster)[0].to_unit(raster.planes)
    assert torch.equal(torch.from_numpy(unit), read_image(tmp_path / "x.png").pixels.float() / 255)


def test_a_stream_of_noise_is_no_picture(tmp_path: Path) -> None:
    stream = io.BytesIO(np.random.default_rng(0).bytes(500))
    (tmp_path / "x.tif").write_bytes(b"II*\0" + stream.getvalue())
    with pytest.raises(DataError, match=r"x\.tif"):
        read_raster(tmp_path / "x.tif")
