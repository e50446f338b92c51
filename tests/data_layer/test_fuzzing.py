"""Pairing and reading with names and bytes that nobody thought of, for a bounded time."""

import io
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from fusion.data.files.boxes import BoxFiles
from fusion.data.files.image import read_image
from fusion.data.files.pairs import by_number, by_prefix, by_stem, fold, natural_key, pair_folders
from fusion.data.files.reading import read_raster
from fusion.errors import DataError

hypothesis = pytest.importorskip("hypothesis", reason="pip install 'image-fusion[dev]'")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

BOUNDED = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LETTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\\0")
STEMS = st.text(LETTERS, min_size=1, max_size=12).filter(lambda s: s not in (".", "..") and len(s.encode()) < 100)


def values() -> np.ndarray:
    """A small picture `(24, 16, 3)` uint8."""
    return (np.arange(24 * 16 * 3, dtype=np.uint32).reshape(24, 16, 3) * 7919 % 256).astype(np.uint8)


def encoded() -> dict[str, bytes]:
    """The picture in every format that can be written here, by the name of a file."""
    import imagecodecs
    import tifffile

    made: dict[str, bytes] = {}

    def keep(name: str, write: Callable[[io.BytesIO], object]) -> None:
        write(data := io.BytesIO())
        made[name] = data.getvalue()

    picture = values()
    image = Image.fromarray(picture)
    for kind in ("png", "jpeg", "tiff", "bmp", "gif", "webp", "ppm", "avif"):
        keep(f"x.{kind}", lambda data, kind=kind: image.save(data, kind.upper()))  # type: ignore[misc]
    keep("palette.png", lambda data: image.convert("P").save(data, "PNG"))
    keep("frames.gif", lambda data: image.save(data, "GIF", save_all=True, append_images=[image.rotate(180)]))
    for codec in ("lzw", "deflate", "packbits", "zstd", "jpeg"):
        options = {"tile": (16, 16)} if codec == "zstd" else {}
        keep(f"{codec}.tif", lambda data, c=codec, o=options: tifffile.imwrite(data, picture, compression=c, **o))  # type: ignore[misc]
    keep("float.tif", lambda data: tifffile.imwrite(data, picture.astype(np.float32), photometric="rgb"))
    keep("x.npy", lambda data: np.save(data, picture))
    keep("x.npz", lambda data: np.savez_compressed(data, picture))
    made["deep.png"] = imagecodecs.png_encode(picture.astype(np.uint16) * 257)
    made["deep.ppm"] = b"P6 16 24 65535\n" + picture.astype(">u2").tobytes()
    made["x.jxl"] = imagecodecs.jpegxl_encode(picture, lossless=True)
    made["boxes.jxl"] = imagecodecs.jpegxl_encode(picture, usecontainer=True)
    made["x.jp2"] = imagecodecs.jpeg2k_encode(picture, codecformat="jp2")
    made["x.j2k"] = imagecodecs.jpeg2k_encode(picture.astype(np.uint16), codecformat="j2k")
    made["x.hdr"] = imagecodecs.rgbe_encode(picture.astype(np.float32) / 255)
    return made | extra(picture)


def extra(picture: np.ndarray) -> dict[str, bytes]:
    """Those that need a package beside the core."""
    made: dict[str, bytes] = {}
    with TemporaryDirectory() as root:
        if find_spec("OpenEXR"):
            import OpenEXR

            OpenEXR.File({}, {"RGB": picture.astype(np.float16)}).write(f"{root}/x.exr")
        if find_spec("nibabel"):
            import nibabel

            for name in ("x.nii", "x.nii.gz"):
                nibabel.save(nibabel.Nifti1Image(picture.transpose(1, 0, 2).copy(), np.eye(4)), f"{root}/{name}")
        if find_spec("astropy"):
            from astropy.io import fits

            fits.PrimaryHDU(picture.transpose(2, 0, 1)).writeto(f"{root}/x.fits")
            packed = fits.CompImageHDU(picture[..., 0].copy())
            fits.HDUList([fits.PrimaryHDU(), packed]).writeto(f"{root}/packed.fits")
        for path in Path(root).iterdir():
            made[path.name] = path.read_bytes()
    return made


SOUND = encoded()
MAGIC = [b"", b"GIF89a", b"P6 ", *sorted({data[:12] for data in SOUND.values()})]
EDITS = st.lists(
    st.tuples(st.integers(0, 5000), st.sampled_from(["set", "flip", "long", "cut", "again"]), st.integers(0, 255)),
    min_size=1,
    max_size=5,
)


def changed(data: bytes, edits: list[tuple[int, str, int]]) -> bytes:
    """Bytes set, bits flipped, four bytes made a huge number, the rest cut off, or a piece repeated."""
    out = bytearray(data)
    for place, what, value in edits:
        start = place % len(out)
        if what == "set":
            out[start] = value
        elif what == "flip":
            out[start] ^= 1 << value % 8
        elif what == "long":
            out[start : start + 4] = b"\xff\xff\xff\x7f"
        elif what == "cut" and value < 64:
            out = out[: start + 1]
        elif what == "again":
            out[start:start] = out[start : start + value]
    return bytes(out)


@BOUNDED
@given(st.lists(STEMS, max_size=8), st.lists(STEMS, max_size=8), st.sampled_from([by_stem, by_prefix, by_number]))
def test_pairs_have_one_name_and_nothing_is_dropped_in_silence(left, right, key) -> None:
    with TemporaryDirectory() as root, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        folders = [Path(root, side) for side in "ab"]
        for folder, stems in zip(folders, (left, right), strict=True):
            folder.mkdir()
            for stem in stems:
                (folder / f"{stem}.png").touch()
        try:
            pairs = pair_folders(*folders, key=key, allow_unpaired=True)
        except DataError as error:
            assert str(error)
            return
        for pair in pairs:
            assert fold(key(pair.a.stem)) == fold(key(pair.b.stem)) == fold(pair.name)
            assert pair.a.parent == folders[0] and pair.b.parent == folders[1]
        assert len({fold(pair.name) for pair in pairs}) == len(pairs)
        visible = [{p for p in folder.iterdir() if not p.name.startswith("._")} for folder in folders]
        used = {p for pair in pairs for p in (pair.a, pair.b)}
        assert told or used == visible[0] | visible[1]


@BOUNDED
@given(st.lists(STEMS, min_size=2, max_size=6))
def test_natural_order_is_a_total_order(names) -> None:
    ordered = sorted(names, key=natural_key)
    assert [natural_key(name) for name in ordered] == sorted(natural_key(name) for name in names)
    for first, second in zip(ordered, ordered[1:], strict=False):
        assert not natural_key(second) < natural_key(first)


@pytest.mark.parametrize("name", sorted(SOUND))
def test_sound_files_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(SOUND[name])
    assert read_raster(path).size == (24, 16)


@pytest.mark.filterwarnings("ignore")
@settings(BOUNDED, max_examples=300)
@given(st.sampled_from(sorted(SOUND)), EDITS)
def test_changed_files_of_every_format_give_a_picture_or_one_line(name, edits) -> None:
    with TemporaryDirectory() as root:
        path = Path(root, name)
        path.write_bytes(changed(SOUND[name], edits))
        try:
            raster = read_raster(path)
        except DataError as error:
            assert name in str(error) and "\n" not in str(error)
            return
        assert raster.planes.ndim == 3 and raster.planes.size


@pytest.mark.filterwarnings("ignore")
@BOUNDED
@given(st.sampled_from(["x.png", "x.jpeg", "lzw.tif", "x.webp", "x.gif"]), EDITS)
def test_changed_files_train_or_are_refused(name, edits) -> None:
    with TemporaryDirectory() as root:
        path = Path(root, name)
        path.write_bytes(changed(SOUND[name], edits))
        try:
            picture = read_image(path)
        except DataError as error:
            assert name in str(error) and "\n" not in str(error)
            return
        assert picture.pixels.ndim == 3 and picture.pixels.shape[0] == 3


@pytest.mark.filterwarnings("ignore")
@settings(BOUNDED, max_examples=200)
@given(
    st.binary(max_size=300), st.sampled_from(MAGIC), st.sampled_from(["x.tif", "x.npy", "x.nii", "x.nii.gz", "x.fits"])
)
def test_any_bytes_give_a_picture_or_one_line(data, magic, name) -> None:
    with TemporaryDirectory() as root:
        path = Path(root, name)
        path.write_bytes(magic + data)
        try:
            read_raster(path)
        except DataError as error:
            assert name in str(error) and "\n" not in str(error)


@pytest.mark.filterwarnings("ignore")
@BOUNDED
@given(st.text(max_size=120), st.sampled_from(["x.xml", "x.txt"]))
def test_any_text_gives_boxes_or_one_line(text, name) -> None:
    head = "<annotation><object><name>a</name><bndbox>" if name == "x.xml" else "0 0.5 0.5 0.2 "
    with TemporaryDirectory() as root:
        path = Path(root, name)
        path.write_text(head + text, encoding="utf-8", errors="surrogatepass")
        try:
            boxes, labels = BoxFiles(["a"], ["a"]).read(path, (24, 16))
        except DataError as error:
            assert name in str(error) and "\n" not in str(error)
            return
        assert boxes.shape == (len(labels), 4)
