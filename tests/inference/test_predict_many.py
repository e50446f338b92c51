"""Stacks, brackets and trees of scenes from the command line: right values, depth, metadata, and one line for what is wrong."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fusion.data.files.reading import read_raster

Door = Callable[..., tuple[int, str]]
RNG = np.random.default_rng(3)
FRAMES = [RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(5)]
MEAN = np.stack(FRAMES).astype(float).mean(0).transpose(2, 0, 1)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("stack").mkdir()
    for index, frame in enumerate(FRAMES, 1):
        Image.fromarray(frame).save(f"stack/IMG_{index}.png")
    pages = [Image.fromarray(frame) for frame in FRAMES]
    pages[0].save("stack.tif", save_all=True, append_images=pages[1:])
    return tmp_path


def fuse(door: Door, *arguments: str) -> str:
    status, text = door("predict", "model=average", "device=cpu", "num_workers=2", *arguments)
    assert status == 0, text
    return text


def refused(door: Door, *arguments: str, status: int = 2) -> str:
    found, text = door("predict", "model=average", "device=cpu", "num_workers=1", *arguments)
    assert found == status and "Traceback" not in text, text
    return text.strip()


def values(path: str) -> np.ndarray:
    return read_raster(path).planes.astype(float)


def test_a_folder_a_list_and_the_pages_of_a_file_are_the_same_stack(door: Door) -> None:
    text = fuse(door, "sources=stack", "out=a.png", "task=mff")
    assert "5 sources (own)" in text
    assert np.abs(values("a.png") - MEAN).max() <= 0.5
    listed = ",".join(f"stack/IMG_{index}.png" for index in (3, 1, 2, 5, 4))
    fuse(door, f"sources=[{listed}]", "out=b.png", "task=mff")
    text = fuse(door, "sources=stack.tif", "out=c.png", "task=mff")
    assert "stack.tif: its 5 pages are the sources" in text and "page=N" not in text
    for path in ("b.png", "c.png"):
        assert np.abs(values(path) - values("a.png")).max() <= 1


def test_pages_given_as_a_or_b_say_how_to_take_all(door: Door) -> None:
    text = fuse(door, "a=stack.tif", "b=stack.tif", "out=o.tif", "task=mff")
    assert "page 0 (counted from 0) is used; page=N takes another, sources=FILE all" in text
    assert np.abs(values("o.tif") - FRAMES[0].transpose(2, 0, 1)).max() == 0
    fuse(door, "a=stack.tif", "b=stack.tif", "page=2", "out=o.tif", "task=mff")
    assert np.abs(values("o.tif") - FRAMES[2].transpose(2, 0, 1)).max() == 0


def test_a_tree_gives_one_result_per_scene(door: Door) -> None:
    for scene in ("arno", "lake"):
        Path("tree", scene).mkdir(parents=True)
        for index in range(3):
            Image.fromarray(FRAMES[index] // (1 + (scene == "lake"))).save(f"tree/{scene}/{index}.jpg", quality=100)
    text = fuse(door, "sources=tree", "out=tree/fused", "task=mef")
    assert "[2/2]" in text and {path.name for path in Path("tree/fused").iterdir()} == {"arno.jpg", "lake.jpg"}
    text = fuse(door, "sources=tree", "out=tree/fused", "task=mef", "overwrite=false")
    assert "nothing to do: all 2 results" in text
    shutil.rmtree("tree/fused")
    assert "sources has 2 scenes, so out is a folder too" in refused(door, "sources=tree", "out=o.png")
    assert "is the folder of the sources" in refused(door, "sources=tree", "out=tree")
    Path("tree/lake/1.jpg").write_bytes(b"\xff\xd8\xff nothing")
    text = refused(door, "sources=tree", "out=again", "task=mef", status=1)
    assert "error: lake: tree/lake/1.jpg" in text and "1 of 2 scenes could not be fused: lake" in text
    assert Path("again/arno.jpg").is_file()


def test_brackets_side_by_side_and_several_in_one_folder(door: Door) -> None:
    for index, name in enumerate(("over", "mid", "under")):
        Path(name).mkdir()
        Path("flat").mkdir(exist_ok=True)
        for scene in ("x", "y"):
            Image.fromarray(FRAMES[index]).save(f"{name}/{scene}.png")
            Image.fromarray(FRAMES[index]).save(f"flat/{scene}_{index}.png")
    fuse(door, "sources=[over,mid,under]", "out=o", "task=mef")
    text = fuse(door, "sources=flat", "out=f", "task=mef")
    assert "2 scenes by prefix of the names, such as x" in text
    expected = np.stack(FRAMES[:3]).astype(float).mean(0).transpose(2, 0, 1)
    for path in ("o/x.png", "o/y.png", "f/x.png", "f/y.png"):
        assert np.abs(values(path) - expected).max() <= 0.5
    text = fuse(door, "sources=flat", "out=all.png", "grouping=folder", "task=mef")
    assert "6 sources" in text


def test_depth_bands_range_and_metadata_are_those_of_pairs(door: Door) -> None:
    geo = [(33550, "d", 3, (0.5, 0.5, 0.0), True)]
    deep = [(frame[..., 0].astype(np.uint16) + 100 * index) * 16 for index, frame in enumerate(FRAMES[:3])]
    for index, frame in enumerate(deep):
        tifffile.imwrite(f"d{index}.tif", frame, extratags=geo if index == 0 else [])
    fuse(door, "sources=[d0.tif,d1.tif,d2.tif]", "out=o.tif", "range=[0,8000]")
    result = read_raster("o.tif")
    assert result.planes.dtype == np.uint16 and result.metadata.geo[0][3] == (0.5, 0.5, 0.0)
    assert np.abs(result.planes[0] - np.stack(deep).mean(0)).max() <= 1
    text = fuse(door, "sources=[d0.tif,d1.tif,stack/IMG_1.png]", "out=m.png")
    assert "sources of different depth, 16 (d1.tif), 8 (stack/IMG_1.png)" in text
    assert read_raster("m.png").planes.dtype == np.uint16
    bands = [RNG.integers(0, 60000, (20, 24, 4), dtype=np.uint16) for _ in range(3)]
    for index, frame in enumerate(bands):
        tifffile.imwrite(f"b{index}.tif", frame, photometric="minisblack", planarconfig="contig")
    fuse(door, "sources=[b0.tif,b1.tif,b2.tif]", "out=bands.tif")
    assert np.abs(values("bands.tif") - np.stack(bands).mean(0).transpose(2, 0, 1)).max() <= 1


def test_sizes_are_refused_or_fitted(door: Door) -> None:
    Image.fromarray(FRAMES[0]).resize((12, 10)).save("small.png")
    files = "sources=[stack/IMG_1.png,stack/IMG_2.png,small.png]"
    text = refused(door, files, "out=o.png", status=1)
    assert "stack/IMG_1.png is 24x20 and small.png is 12x10" in text and "match_size=a" in text
    fuse(door, files, "out=o.png", "match_size=a", "check_alignment=0")
    assert read_raster("o.png").size == (20, 24)


def test_mistakes_are_answered_by_one_line(door: Door) -> None:
    for arguments, line in (
        (["sources=[stack/IMG_1.png]"], "sources=.stack/IMG_1.png.: one source; give two or more"),
        (["sources=stack", "a=stack/IMG_1.png"], "sources and a are both given"),
        (["a=[stack/IMG_1.png,stack/IMG_2.png]", "b=stack/IMG_3.png"], "sources=FOLDER or sources=."),
        (["sources=stack.tif", "page=1"], "page=1: the pages of stack.tif are the sources"),
        (["sources=stack", "range.b=minmax"], "one range holds for all sources"),
        (["sources=stack", "many=all"], "many=all: expected one of auto, own, tree"),
        (["sources=stack", "grouping=name"], "grouping=name: expected one of auto"),
        (["sources=nowhere"], "sources=nowhere: no such folder or file"),
        (["sources=[stack/IMG_1.png,stack/IMG_9.png]"], "stack/IMG_9.png: no such file"),
    ):
        text = refused(door, *arguments, "out=o.png").splitlines()[-1]
        assert text.startswith("error: ") and re.search(line, text), text
    Image.fromarray(FRAMES[0]).save("one.tif")
    text = refused(door, "sources=one.tif", "out=o.png", status=1)
    assert "one.tif: one picture; a scene has two or more sources" in text


def test_names_with_spaces_brackets_and_digits_alone(door: Door) -> None:
    Path("my photos (1)").mkdir()
    for index in range(3):
        Image.fromarray(FRAMES[index]).save(f"my photos (1)/{index}.png")
    fuse(door, "sources=my photos (1)", "out=a.png")
    fuse(door, "sources=[my photos (1)/0.png,my photos (1)/1.png, my photos (1)/2.png]", "out=b.png")
    assert (values("a.png") == values("b.png")).all()
    for name in ("1", "02", "3"):
        Path(name).mkdir()
        Image.fromarray(FRAMES[0]).save(f"{name}/v.png")
    fuse(door, "sources=[1,02,3]", "out=c.png")
    assert (values("c.png") == FRAMES[0].transpose(2, 0, 1)).all()
