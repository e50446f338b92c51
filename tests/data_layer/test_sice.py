"""SICE as published becomes SCIE: the brightest and the darkest of every sequence, whatever their numbers."""

from pathlib import Path

import pytest
from PIL import Image

from fusion.data import SCIE, SICEPairs, read_image
from fusion.errors import ConfigError, DataError


def sequence(folder: Path, *levels: int, suffix: str = ".JPG") -> None:
    folder.mkdir(parents=True)
    for number, level in enumerate(levels, start=1):
        Image.new("RGB", (64, 48), (level,) * 3).save(folder / f"{number}{suffix}")


@pytest.fixture
def sice(tmp_path: Path) -> Path:
    sequence(tmp_path / "SICE/Dataset_Part1/1", 10, 60, 120, 200, 250)
    sequence(tmp_path / "SICE/Dataset_Part1/10", 240, 100, 20)  # numbered the other way round
    sequence(tmp_path / "SICE/Dataset_Part1/Label", 128)
    sequence(tmp_path / "SICE/Dataset_Part2/1", 90, 30, 180, suffix=".png")
    return tmp_path / "SICE"


def test_extremes_are_chosen_by_brightness(sice: Path, tmp_path: Path) -> None:
    dataset = SCIE(SICEPairs(sice, tmp_path / "SCIE").prepare())
    levels = {s["name"]: (round(float(s["a"].float().mean())), round(float(s["b"].float().mean()))) for s in dataset}
    assert levels == {"p1_001": (250, 10), "p1_010": (240, 20), "p2_001": (180, 30)}


def test_a_stopped_run_goes_on_and_the_originals_may_go(sice: Path, tmp_path: Path) -> None:
    pairs = SICEPairs(sice, tmp_path / "SCIE")
    pairs.prepare()
    (tmp_path / "SCIE/ue/p1_010.jpg").unlink()
    Image.new("RGB", (64, 48), "red").save(tmp_path / "SCIE/oe/p1_001.jpg")  # what is there is left alone
    pairs.prepare()
    assert len(SCIE(tmp_path / "SCIE")) == 3
    assert read_image(tmp_path / "SCIE/oe/p1_001.jpg").pixels[1].max() < 5
    sice.rename(tmp_path / "archive")
    assert pairs.prepare() == tmp_path / "SCIE"


def test_what_is_missing_or_damaged_is_named(sice: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)nowhere: no SICE sequences.*Dataset_Part1/1/1\.JPG"):
        SICEPairs(tmp_path / "nowhere", tmp_path / "SCIE").prepare()
    (sice / "Dataset_Part1/10/2.JPG").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"10/2\.JPG: unreadable or truncated"):
        SICEPairs(sice, tmp_path / "SCIE").prepare()


def test_a_sequence_of_one_image_is_passed_over(sice: Path, tmp_path: Path) -> None:
    sequence(sice / "Dataset_Part2/2", 50)
    with pytest.warns(UserWarning, match="Dataset_Part2/2: one image only"):
        SICEPairs(sice, tmp_path / "SCIE").prepare()
    assert len(SCIE(tmp_path / "SCIE")) == 3


def test_any_two_of_a_sequence(sice: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="3 images, too few for over=-2, under=1"):
        dataset = SCIE(SICEPairs(sice, tmp_path / "SCIE", over=-2, under=1).prepare())
    (only,) = list(dataset)
    assert (round(float(only["a"].float().mean())), round(float(only["b"].float().mean()))) == (200, 60)
    with pytest.raises(ConfigError, match="over=1 and under=1 are one image"):
        SICEPairs(sice, tmp_path / "SCIE", over=1, under=1)
