"""Pairing by name: what belongs together is found, what is left over is named."""

import unicodedata
from pathlib import Path

import pytest

from fusion.data import Folders, Pair, pair_folders, pair_scenes
from fusion.data.files.pairs import natural_key
from fusion.data.files.selection import read_names, select
from fusion.errors import ConfigError, DataError

from .conftest import Writer


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def names(pairs: list[Pair]) -> list[str]:
    return [pair.name for pair in pairs]


def test_case_and_ending_do_not_matter_and_numbers_count(tmp_path: Path) -> None:
    a = touch(tmp_path / "a", "img10.JPG", "img2.png", "Img1.tif", "notes.txt", ".hidden.png")
    b = touch(tmp_path / "b", "IMG1.png", "img10.png", "img2.bmp", "Thumbs.db")
    pairs = pair_folders(a, b)
    assert names(pairs) == ["Img1", "img2", "img10"]
    assert [(p.a.name, p.b.name) for p in pairs] == [
        ("Img1.tif", "IMG1.png"),
        ("img2.png", "img2.bmp"),
        ("img10.JPG", "img10.png"),
    ]


def test_natural_order_is_total_for_odd_names() -> None:
    odd = ["10", "2", "a", "1a", "a1", "b10", "b2", "²", "é", "Z"]
    assert sorted(odd, key=natural_key)[:3] == ["1a", "2", "10"]


def test_unicode_names_pair_however_they_are_encoded(tmp_path: Path) -> None:
    a = touch(tmp_path / "a", unicodedata.normalize("NFC", "Häuser 景.png"))
    b = touch(tmp_path / "b", unicodedata.normalize("NFD", "Häuser 景.jpg"))
    assert names(pair_folders(a, b)) == [unicodedata.normalize("NFC", "Häuser 景")]


def test_unpaired_names_are_listed_on_both_sides(tmp_path: Path) -> None:
    a = touch(tmp_path / "a", "same.png", *(f"only{i}.png" for i in range(7)))
    b = touch(tmp_path / "b", "same.png", "other.png")
    with pytest.raises(DataError) as error:
        pair_folders(a, b)
    message = str(error.value)
    assert "7 without a partner" in message
    assert "only0.png, only1.png, only2.png, only3.png, only4.png, ...)" in message
    assert "1 without a partner" in message and "(other.png)" in message
    assert "allow_unpaired=true" in message
    with pytest.warns(UserWarning, match="7 without a partner"):
        assert names(pair_folders(a, b, allow_unpaired=True)) == ["same"]


def test_folders_that_share_no_name_are_refused_even_with_allow_unpaired(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a", "1.png"), touch(tmp_path / "b", "2.png")
    with pytest.raises(DataError, match="not a single pair"):
        pair_folders(a, b, allow_unpaired=True)


def test_one_name_for_two_files_is_refused(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a", "x.png", "x.jpg"), touch(tmp_path / "b", "x.png")
    with pytest.raises(DataError, match=r"x\.jpg and x\.png have the same name"):
        pair_folders(a, b)


def test_missing_and_empty_folders_show_the_layout(tmp_path: Path) -> None:
    a = touch(tmp_path / "a", "x.png")
    with pytest.raises(DataError, match=r"(?s)nowhere: no such folder.*HERE IS THE TREE"):
        pair_folders(a, tmp_path / "nowhere", layout="HERE IS THE TREE")
    with pytest.raises(DataError, match=r"(?s)empty: no images.*HERE IS THE TREE"):
        pair_folders(a, touch(tmp_path / "empty", "readme.txt"), layout="HERE IS THE TREE")
    with pytest.raises(DataError, match="is a file, not a folder"):
        pair_folders(a, a / "x.png")


def test_scenes_ignore_other_files_and_name_incomplete_scenes(tmp_path: Path) -> None:
    touch(tmp_path / "two", "two_A.png", "two_b.JPG", "two.png", "IMG_0815_A.jpg")
    touch(tmp_path / "ten10", "ten10_A.tif", "ten10_B.tif")
    pairs = pair_scenes(tmp_path)
    assert [(p.name, p.a.name, p.b.name) for p in pairs] == [
        ("ten10", "ten10_B.tif", "ten10_A.tif"),
        ("two", "two_b.JPG", "two_A.png"),
    ]
    touch(tmp_path / "half", "half_A.png")
    with pytest.raises(DataError, match=r"1 of 3 scene folders lack SCENE_A\.\* or SCENE_B\.\*: half"):
        pair_scenes(tmp_path)
    with pytest.warns(UserWarning, match="half"):
        assert names(pair_scenes(tmp_path, allow_unpaired=True)) == ["ten10", "two"]


def test_folders_take_two_files_or_two_folders(tmp_path: Path, write: Writer) -> None:
    a, b = write(tmp_path / "vis/street.png", 1), write(tmp_path / "ir/thermal.jpg", 2)
    sample = Folders(a, b, task="mff")[0]
    assert (sample["name"], sample["task"]) == ("street", "mff")
    with pytest.raises(DataError, match="one is a file, the other a folder"):
        len(Folders(a, b.parent))
    with pytest.raises(DataError, match="not a single pair"):
        len(Folders(a.parent, b.parent))
    with pytest.raises(ConfigError, match="task=ivif: unknown, expected one of vif, mef, mff"):
        Folders(a, b, task="ivif")
    with pytest.raises(ConfigError, match="b: not given"):
        Folders(a, None)  # type: ignore[arg-type]


def some_pairs(*stems: str) -> list[Pair]:
    return [Pair(stem, Path(stem), Path(stem)) for stem in stems]


def test_selection_by_names_patterns_and_files(tmp_path: Path) -> None:
    pairs = some_pairs("Arno", "lytro_01", "lytro_02", "Night", "tower")
    (tmp_path / "list.txt").write_text("# kept\narno  # case does not matter\n\nNight\n", encoding="utf-8")
    assert names(select(pairs, include=str(tmp_path / "list.txt"))) == ["Arno", "Night"]
    assert names(select(pairs, exclude=["lytro_*", "tower"])) == ["Arno", "Night"]
    assert names(select(pairs, include=["lytro_*"], exclude=["lytro_01"])) == ["lytro_02"]
    with pytest.raises(DataError, match="1 names to include do not exist: Nigth"):
        select(pairs, include=["Nigth"])
    with pytest.warns(UserWarning, match="1 names to exclude do not exist: Nigth"):
        select(pairs, exclude=["Nigth"])
    with pytest.raises(DataError, match="leave no pair"):
        select(pairs, exclude=["*"])
    with pytest.raises(ConfigError, match="neither a text file of names nor one of the known lists .*mefb_heldout"):
        select(pairs, include="mefb_heldoutt")


def test_packaged_list_has_sixteen_different_scenes() -> None:
    scenes = read_names("mefb_heldout")
    assert len(scenes) == len(set(scenes)) == 16


def test_limit_and_skip_share_the_pairs_out() -> None:
    pairs = some_pairs(*(str(i) for i in range(50)))
    assert names(select(pairs, limit=3)) == ["0", "1", "2"]
    drawn = names(select(pairs, limit=20, shuffle_seed=0))
    rest = names(select(pairs, skip=20, shuffle_seed=0))
    assert sorted([*drawn, *rest], key=int) == [str(i) for i in range(50)]
    assert drawn == sorted(drawn, key=int) != [str(i) for i in range(20)]
    assert drawn != names(select(pairs, limit=20, shuffle_seed=1))
    assert drawn == names(select(list(reversed(pairs)), limit=20, shuffle_seed=0))
    assert set(names(select(pairs[:25], limit=25, shuffle_seed=0))) == {str(i) for i in range(25)}
    for wrong in ({"limit": 0}, {"skip": -1}):
        with pytest.raises(ConfigError):
            select(pairs, **wrong)
    with pytest.raises(DataError, match="skip=50 leaves none"):
        select(pairs, skip=50)
