"""Scenes of several pictures: lists, folders, trees, names, patterns; and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.data.files.scenes import find_scenes
from fusion.errors import ConfigError, DataError


def folder(root: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), index, np.uint8)).save(root / name)
    return root


def found(sources, **options) -> dict[str, list[str]]:
    return {scene.name: [file.name for file in scene.files] for scene in find_scenes(sources, **options)[0]}


def test_a_folder_is_one_scene_in_natural_order(tmp_path: Path) -> None:
    root = folder(tmp_path / "stack", "IMG_10.png", "IMG_2.png", "IMG_1.png")
    assert found(str(root)) == {"stack": ["IMG_1.png", "IMG_2.png", "IMG_10.png"]}


def test_every_sub_folder_is_a_scene_and_the_results_are_none(tmp_path: Path) -> None:
    root = folder(tmp_path / "tree", "one/1.jpg", "one/2.jpg", "two/1.jpg", "two/2.jpg", "two/3.jpg", "out/one.jpg")
    assert found(str(root), ignore=[root / "out"]) == {"one": ["1.jpg", "2.jpg"], "two": ["1.jpg", "2.jpg", "3.jpg"]}
    with pytest.raises(DataError, match="one picture alone, such as .*out.one.jpg.*allow_unpaired"):
        find_scenes(str(root))
    with pytest.warns(UserWarning, match="left out"):
        assert set(found(str(root), allow_single=True)) == {"one", "two"}


NAMES = {
    "parts behind": (["arno_0.jpg", "arno_1.jpg", "lake_0.jpg", "lake_1.jpg"], {"arno": 2, "lake": 2}),
    "digits behind": (["arno1.png", "arno2.png", "lake1.png", "lake2.png"], {"arno": 2, "lake": 2}),
    "letters": (["x_A.png", "x_B.png", "x_C.png", "y_A.png", "y_B.png", "y_C.png"], {"x": 3, "y": 3}),
    "words": (["x_under.png", "x_mid.png", "x_over.png", "y_under.png", "y_mid.png", "y_over.png"], {"x": 3, "y": 3}),
    "parts in front": (["0_arno.jpg", "1_arno.jpg", "0_lake.jpg", "1_lake.jpg"], {"arno": 2, "lake": 2}),
    "one bracket": (["scene_0.jpg", "scene_1.jpg", "scene_2.jpg"], {"f": 3}),
    "a camera's numbers": (["DSC_0001.jpg", "DSC_0002.jpg", "DSC_0007.jpg"], {"f": 3}),
    "numbers alone": (["1.jpg", "2.jpg", "10.jpg"], {"f": 3}),
    "different makeup": (["a_0.jpg", "a_1.jpg", "b_5.jpg", "b_6.jpg"], {"f": 4}),
    "free words": (["near.png", "far_away.png", "middle.png"], {"f": 3}),
}


@pytest.mark.parametrize("case", NAMES)
def test_several_scenes_of_one_folder_are_told_by_their_names(tmp_path: Path, case: str) -> None:
    names, expected = NAMES[case]
    root = folder(tmp_path / "f", *names)
    scenes, lines = find_scenes(str(root))
    assert {scene.name: len(scene.files) for scene in scenes} == expected
    assert bool(lines) == (len(expected) > 1)
    assert all("grouping=folder" in line for line in lines)
    assert found(str(root), grouping="folder").keys() == {"f"}


def test_grouping_can_be_asked_for(tmp_path: Path) -> None:
    root = folder(tmp_path / "f", "a_0.jpg", "a_1.jpg", "b_5.jpg", "b_6.jpg")
    assert found(str(root), grouping="prefix") == {"a": ["a_0.jpg", "a_1.jpg"], "b": ["b_5.jpg", "b_6.jpg"]}
    with pytest.raises(ConfigError, match="grouping=name"):
        find_scenes(str(root), grouping="name")


def test_lists_of_files_and_of_folders_and_patterns(tmp_path: Path) -> None:
    over = folder(tmp_path / "over", "arno.jpg", "lake.jpg")
    middle = folder(tmp_path / "middle", "arno.png", "lake.png")
    under = folder(tmp_path / "under", "arno.jpg", "lake.jpg")
    files = [over / "arno.jpg", middle / "arno.png", under / "arno.jpg"]
    assert [scene.files for scene in find_scenes([str(file) for file in files])[0]] == [tuple(files)]
    assert find_scenes(",".join(str(file) for file in files))[0][0].files == tuple(files)
    scenes = find_scenes([str(over), str(middle), str(under)])[0]
    assert [scene.name for scene in scenes] == ["arno", "lake"] and scenes[0].files == tuple(files)
    assert found(str(tmp_path / "o*" / "*.jpg")) == {"arno": ["arno.jpg", "lake.jpg"]}


def test_what_is_no_scene_is_refused_by_one_line(tmp_path: Path) -> None:
    root = folder(tmp_path / "f", "a.jpg", "sub/b.jpg", "sub/c.jpg")
    alone = folder(tmp_path / "alone", "a.jpg")
    for sources, line in (
        ([str(root / "a.jpg")], "one source; give two or more"),
        ([str(root / "a.jpg"), str(root / "nope.jpg")], "nope.jpg: no such file"),
        ([str(root / "a.jpg"), str(root / "sub")], "is a folder among files"),
        ([str(root / "a.jpg"), str(root / "a.jpg")], "given twice"),
        ([str(alone), str(alone)], "given twice"),
        (str(tmp_path / "x*.jpg"), "fits this pattern"),
        (str(tmp_path / "nowhere"), "no such folder or file"),
        (str(alone), "one picture, a.jpg"),
        (str(root), "holds pictures and a folder of pictures.*recursive=false"),
        ([], "empty"),
    ):
        with pytest.raises(DataError, match=line):
            find_scenes(sources)
    assert find_scenes(str(root / "a.jpg"))[0][0].pages
