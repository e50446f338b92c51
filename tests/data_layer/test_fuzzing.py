"""Pairing and reading with names and bytes that nobody thought of, for a bounded time."""

import io
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from fusion.data.files.image import read_image
from fusion.data.files.pairs import by_number, by_prefix, by_stem, fold, natural_key, pair_folders
from fusion.errors import DataError

hypothesis = pytest.importorskip("hypothesis", reason="pip install 'image-fusion[dev]'")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

BOUNDED = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LETTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\\0")
STEMS = st.text(LETTERS, min_size=1, max_size=12).filter(lambda s: s not in (".", "..") and len(s.encode()) < 100)


def encoded(kind: str) -> bytes:
    """A small sound picture."""
    data = io.BytesIO()
    values = np.arange(24 * 16 * 3, dtype=np.uint32).reshape(24, 16, 3) * 7919 % 256
    Image.fromarray(values.astype(np.uint8)).save(data, kind)
    return data.getvalue()


MAGIC = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF89a", b"BM", b"P6 "]
SOUND = {kind: encoded(kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")}


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


@pytest.mark.filterwarnings("ignore")
@BOUNDED
@given(
    st.sampled_from(sorted(SOUND)),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
    st.integers(0, 5000),
    st.binary(max_size=40),
)
def test_changed_bytes_give_a_picture_or_one_line(kind, changes, cut, tail) -> None:
    data = bytearray(SOUND[kind])
    for place, value in changes:
        data[place % len(data)] = value
    data = data[: cut % len(data) + 1] + tail if cut % 3 else data + tail
    with TemporaryDirectory() as root:
        path = Path(root, "x.png")
        path.write_bytes(data)
        try:
            picture = read_image(path)
        except DataError as error:
            assert "x.png" in str(error) and "\n" not in str(error)
            return
        assert picture.pixels.ndim == 3 and picture.pixels.shape[0] == 3


@pytest.mark.filterwarnings("ignore")
@BOUNDED
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF89a", b"BM", b"P6 "]),
)
def test_any_bytes_give_a_picture_or_one_line(data, magic) -> None:
    with TemporaryDirectory() as root:
        path = Path(root, "x.tif")
        path.write_bytes(magic + data)
        try:
            read_image(path)
        except DataError as error:
            assert "x.tif" in str(error) and "\n" not in str(error)
