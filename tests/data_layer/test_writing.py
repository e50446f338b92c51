"""Results keep depth, alpha and metadata where their format can, and say so where it cannot."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from fusion.data.files.formats import FORMATS, WRITABLE
from fusion.data.files.raster import Metadata, Raster
from fusion.data.files.reading import read_raster
from fusion.data.files.table import format_table
from fusion.data.files.writing import Compression, write_raster
from fusion.errors import ConfigError, DataError

RNG = np.random.default_rng(3)
DEEP = RNG.integers(0, 65536, (3, 9, 12), dtype=np.uint16)
DOCS = Path(__file__).parents[2] / "docs" / "formats.md"


def picture(depth: str, count: int = 3) -> Raster:
    values = {"8": DEEP // 257, "16": DEEP, "32": DEEP.astype(np.uint32) * 65537, "float": DEEP / 65535}[depth][:count]
    dtype = {"8": np.uint8, "16": np.uint16, "32": np.uint32, "float": np.float32}[depth]
    white = {"8": 255, "16": 65535, "32": 2**32 - 1, "float": 1}[depth]
    return Raster(values.astype(dtype), "gray" if count == 1 else "rgb", (0.0, float(white)))


LOSSLESS = [
    (suffix, depth)
    for form in FORMATS
    for suffix in form.suffixes
    if suffix in WRITABLE and form.name not in ("JPEG", "WebP", "AVIF", "Radiance HDR")
    for depth in form.depths
]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("suffix", "depth"), LOSSLESS)
def test_values_survive(tmp_path: Path, suffix: str, depth: str, count: int) -> None:
    if suffix == ".exr":
        pytest.importorskip("OpenEXR")
    source = picture(depth, count)
    path, lost = write_raster(tmp_path / f"x{suffix}", source)
    back = read_raster(path)
    assert lost == [] and back.planes.dtype == source.planes.dtype and np.array_equal(back.planes, source.planes)
    assert [item.name for item in tmp_path.iterdir()] == [f"x{suffix}"]


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    path, lost = write_raster(tmp_path / "x.jpg", picture("16"))
    assert "JPEG holds 8 bit, the result has 16 bit" in lost[0]
    assert read_raster(path).planes.dtype == np.uint8
    back = read_raster(write_raster(tmp_path / "x.png", picture("float"))[0])
    assert back.planes.dtype == np.uint16 and np.abs(back.planes.astype(int) - DEEP).max() <= 1
    bands = Raster(np.concatenate([DEEP, DEEP[:1]]), "bands", (0.0, 65535.0))
    with pytest.raises(ConfigError, match=r"no more than three bands, the result has 4; write \.tif"):
        write_raster(tmp_path / "x.png", bands)
    back = read_raster(write_raster(tmp_path / "x.tif", bands)[0])
    assert back.channels == "bands" and np.array_equal(back.planes, bands.planes)
    with pytest.raises(ConfigError, match=r"'\.gif' cannot be written; use one of \.png"):
        write_raster(tmp_path / "x.gif", picture("8"))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_raster(tmp_path / "file" / "x.png", picture("8"))


@pytest.mark.parametrize(
    ("suffix", "depth"), [(".png", "8"), (".png", "16"), (".tif", "8"), (".tif", "16"), (".webp", "8")]
)
def test_alpha_survives(tmp_path: Path, suffix: str, depth: str) -> None:
    alpha = (np.arange(108).reshape(9, 12) / 107).astype(np.float32)
    source = picture(depth)
    source = Raster(source.planes, source.channels, source.limits, alpha=alpha)
    back = read_raster(write_raster(tmp_path / f"x{suffix}", source, Compression(quality=100))[0])
    assert back.alpha is not None and np.abs(back.alpha - alpha).max() < 1 / 255
    assert np.array_equal(back.planes, source.planes)
    lost = write_raster(tmp_path / "x.jpg", source)[1]
    assert any("no alpha" in line for line in lost)


def tagged(folder: Path) -> Path:
    """A photograph with a camera, an exposure, a place, a resolution and a profile, taken upside down."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x010E] = 3, "Camera", "a scene"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    exif[0x8769] = exif.get_ifd(0x8769)
    place = exif.get_ifd(0x8825)
    place[1], place[2] = "N", (48.0, 30.0, 1.5)
    exif[0x8825] = place
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = folder / "tagged.jpg"
    Image.fromarray((DEEP // 257).astype(np.uint8).transpose(1, 2, 0)).save(
        path, exif=exif, dpi=(300, 300), icc_profile=profile, quality=98
    )
    return path


@pytest.mark.parametrize("depth", ["8", "16"])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".webp", ".avif"])
def test_metadata_goes_along(tmp_path: Path, suffix: str, depth: str) -> None:
    source = read_raster(tagged(tmp_path))
    deep = picture(depth)
    path, _ = write_raster(tmp_path / f"x{suffix}", Raster(deep.planes, "rgb", deep.limits, metadata=source.metadata))
    with Image.open(path) as image:
        exif = image.getexif()
        assert exif[0x010F] == "Camera" and exif.get(0x0112, 1) == 1  # the orientation is applied, not repeated
        assert float(exif.get_ifd(0x8769)[0x829A]) == pytest.approx(0.01)
        assert exif.get_ifd(0x8825)[1] == "N" and [float(x) for x in exif.get_ifd(0x8825)[2]] == [48, 30, 1.5]
        assert image.info["icc_profile"] == source.metadata.icc
        if suffix in (".tif", ".png", ".jpg"):
            assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)
    assert read_raster(path).metadata.exif is not None


def test_a_geo_reference_goes_along(tmp_path: Path) -> None:
    tags = [(33550, "d", 3, (2.0, 2.0, 0.0), True), (33922, "d", 6, (0, 0, 0, 5e5, 4e6, 0), True)]
    tifffile.imwrite(tmp_path / "geo.tif", DEEP[0], extratags=tags)
    source = read_raster(tmp_path / "geo.tif")
    path, _ = write_raster(tmp_path / "out.tif", Raster(DEEP[:1], "gray", (0.0, 65535.0), metadata=source.metadata))
    with tifffile.TiffFile(path) as file:
        found = {tag.code: tag.value for tag in file.pages[0].tags}
    assert found[33550] == (2.0, 2.0, 0.0) and found[33922] == (0, 0, 0, 5e5, 4e6, 0)
    lost = write_raster(tmp_path / "out.png", Raster(DEEP[:1], "gray", (0.0, 65535.0), metadata=source.metadata))[1]
    assert any("no geo-reference; .tif does" in line for line in lost)


def test_a_grey_result_takes_no_profile_of_a_colour_source(tmp_path: Path) -> None:
    icc = read_raster(tagged(tmp_path)).metadata.icc
    path, _ = write_raster(tmp_path / "x.png", Raster(DEEP[:1], "gray", (0.0, 65535.0), metadata=Metadata(icc=icc)))
    assert Image.open(path).info.get("icc_profile") is None


def test_compression_of_lossy_formats(tmp_path: Path) -> None:
    smooth = np.kron(RNG.integers(0, 256, (3, 4, 4)), np.ones((1, 16, 16))).astype(np.uint8)
    source = Raster(smooth, "rgb", (0.0, 255.0))
    sizes = []
    for name, how in (("best", Compression()), ("half", Compression(95, "420")), ("small", Compression(20, "420"))):
        path, _ = write_raster(tmp_path / f"{name}.jpg", source, how)
        sizes.append(path.stat().st_size)
        if name == "best":
            assert np.abs(read_raster(path).planes.astype(int) - smooth).mean() < 1.5
            with Image.open(path) as image:
                assert {layer[1:3] for layer in image.layer} == {(1, 1)}  # no chroma is thrown away
    assert sizes[0] > sizes[1] > sizes[2]
    for wrong in ({"quality": 0}, {"quality": 101}, {"chroma": "411"}):
        with pytest.raises(ConfigError):
            Compression(**wrong)


def test_the_table_of_formats_in_the_documents_is_what_files_do(tmp_path: Path) -> None:
    for package in ("OpenEXR", "nibabel", "astropy"):
        pytest.importorskip(package)
    assert DOCS.read_text(encoding="utf-8") == format_table(tmp_path), "run: python -m fusion.data.files.table"
