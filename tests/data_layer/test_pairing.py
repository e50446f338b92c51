"""Names as cameras and people give them: what belongs together is paired, or refused with the way out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.data.files.pairing import pair_files_of
from fusion.data.sets import Folders
from fusion.errors import ConfigError, DataError


def folder(root: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), index, np.uint8)).save(root / name)
    return root


CASES = {
    "padded": (["001.png", "002.png", "010.png"], ["1.png", "2.png", "10.png"], "number"),
    "kinds in front": (["vis_1.png", "vis_2.png", "vis_10.png"], ["ir_1.png", "ir_2.png", "ir_10.png"], "number"),
    "kinds behind": (["DJI_0001_W.jpg", "DJI_0002_W.jpg"], ["DJI_0001_T.jpg", "DJI_0002_T.jpg"], "number"),
    "counters differ": (
        ["DJI_2023_0002_W.jpg", "DJI_2024_0004_W.jpg"],
        ["DJI_2023_0001_T.jpg", "DJI_2024_0003_T.jpg"],
        "part 2",
    ),
    "letters": (["street_rgb.png", "park_rgb.png"], ["park_ir.png", "street_ir.png"], "prefix"),
    "flir": (["FLIR_1_RGB.jpg", "FLIR_2_RGB.jpg"], ["FLIR_1_PreviewData.jpeg", "FLIR_2_PreviewData.jpeg"], "number"),
}


@pytest.mark.parametrize("case", CASES)
def test_names_without_an_equal_one_are_paired_and_it_is_said(tmp_path: Path, case: str) -> None:
    a, b, rule = CASES[case]
    pairs, said = pair_files_of(folder(tmp_path / "a", *a), folder(tmp_path / "b", *b))
    found = {(pair.a.name, pair.b.name) for pair in pairs}
    expected = set(zip(a, b, strict=True)) if case != "letters" else {(a[0], b[1]), (a[1], b[0])}
    assert found == expected and said is not None and rule in said


def test_equal_names_go_first_whatever_their_ending_and_case(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", "x.JPG", "frame.0001.png", ".hidden.png")
    b = folder(tmp_path / "b", "X.bmp", "frame.0001.tif")
    pairs, said = pair_files_of(a, b)
    assert [(p.name, p.b.name) for p in pairs] == [("frame.0001", "frame.0001.tif"), ("x", "X.bmp")] and said is None
    both = folder(tmp_path / "c", "Img1.png", "img1.png"), folder(tmp_path / "d", "Img1.png", "img1.png")
    assert [p.b.name for p in pair_files_of(*both)[0]] == ["Img1.png", "img1.png"]


def test_sub_folders_pair_with_sub_folders(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", "day/1.png", "night/1.png")
    b = folder(tmp_path / "b", "day/1.png", "night/1.png")
    folder(tmp_path / "a" / "results", "day/1.png")
    pairs, _ = pair_files_of(a, b, ignore=[tmp_path / "a" / "results"])
    assert [(p.name, p.b.relative_to(b).as_posix()) for p in pairs] == [
        ("day/1", "day/1.png"), ("night/1", "night/1.png"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="no images in this folder"):
        pair_files_of(a, b, recursive=False)


def test_one_folder_for_both_pairs_its_names_or_is_refused(tmp_path: Path) -> None:
    both = folder(tmp_path / "ab", "Arno_A.png", "Arno_B.png", "7_vis.png", "7_ir.png", "thermal_9.png", "rgb_9.png")
    pairs, said = pair_files_of(both, both)
    assert {(p.name, p.a.name, p.b.name) for p in pairs} == {
        ("Arno", "Arno_A.png", "Arno_B.png"), ("7", "7_vis.png", "7_ir.png"), ("9", "rgb_9.png", "thermal_9.png"),
    }  # fmt: skip
    assert said is not None and "one folder" in said
    plain = folder(tmp_path / "plain", "1.png", "2.png")
    with pytest.raises(DataError, match="given for both sources.*SCENE_A and SCENE_B"):
        pair_files_of(plain, plain)
    with pytest.raises(DataError, match=r"1 of its pictures have no partner in it \(lone_A"):
        pair_files_of(folder(both, "lone_A.png"), both)


def test_rules_by_name(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", "x_1.png", "y_2.png"), folder(tmp_path / "b", "q_1.png", "r_2.png")
    for rule in ("number", "suffix", "order"):
        pairs, _ = pair_files_of(a, b, rule=rule)
        assert [(p.a.name, p.b.name) for p in pairs] == [("x_1.png", "q_1.png"), ("y_2.png", "r_2.png")], rule
    with pytest.raises(DataError, match="pairing=number, prefix, suffix .* pairing=order"):
        pair_files_of(a, b, rule="stem")
    with pytest.raises(ConfigError, match="pairing=names: unknown, expected one of auto, stem, number"):
        pair_files_of(a, b, rule="names")
    with pytest.raises(DataError, match="as many pictures in both folders"):
        pair_files_of(folder(a, "z_3.png"), b, rule="order")


def test_leftovers_are_refused_unless_allowed(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", "1.png", "2.png"), folder(tmp_path / "b", "1.png")
    with pytest.raises(DataError, match=r"Unpaired images: 1 without a partner in .*2\.png"):
        pair_files_of(a, b)
    with pytest.warns(UserWarning, match="using the pairs only"):
        assert len(pair_files_of(a, b, allow_unpaired=True)[0]) == 1


def test_folders_take_numbers_and_name_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "1", "v.png")
    folder(tmp_path / "2", "v.png")
    monkeypatch.chdir(tmp_path)
    assert len(Folders(1, 2).pairs) == 1  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"a=nowhere\.png: no such file\.$"):
        Folders("nowhere.png", "2").pairs  # noqa: B018
    with pytest.raises(DataError, match="a=nowhere: no such folder or file"):
        Folders("nowhere", "2").pairs  # noqa: B018
