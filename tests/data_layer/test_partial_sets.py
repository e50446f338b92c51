"""Sets of which only a part is there, box files in both formats, references of SICE."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from fusion.data import M3FD, MSRS, SCIE, VT5000, BoxDataset, FusionDataModule, RoadScene, SICEPairs, collate
from fusion.data.actions import verify_all
from fusion.data.files.boxes import read_yolo_boxes, write_voc_boxes
from fusion.data.files.labels import read_voc_boxes
from fusion.data.files.partial import share_cuts, shrink
from fusion.errors import ConfigError, DataError

from .conftest import Writer, write_boxes

CLASSES = ("People", "Car")
TEXT = ("People", "Bike", "Car")


def test_yolo_text_and_voc_give_the_same_boxes(tmp_path: Path) -> None:
    text = tmp_path / "1.txt"
    text.write_text("2 0.5 0.5 0.25 0.5\n\n1 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.4 0.4 0.93\n0 0.5 0.5 0 0.5\n")
    boxes, labels = read_yolo_boxes(text, CLASSES, TEXT, (24, 32))
    torch.testing.assert_close(boxes, torch.tensor([[12.0, 6.0, 20.0, 18.0], [0.0, 0.0, 9.6, 7.2]]))  # clipped
    assert labels.tolist() == [1, 0]  # the bike is left out, the box without width too
    for offset in (0.0, 1.0):
        path = write_voc_boxes(tmp_path / "new/1.xml", (24, 32), boxes, ["Car", "People"], offset)
        again, numbers = read_voc_boxes(path, CLASSES, (24, 32), offset)
        torch.testing.assert_close(again, boxes, atol=0.011, rtol=0)
        assert numbers.tolist() == [1, 0]
    text.write_text("")
    assert read_yolo_boxes(text, CLASSES, TEXT, (24, 32))[0].shape == (0, 4)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("7 0.5 0.5 0.1 0.1", r"1\.txt, line 2: class 7, known are 0 to 2 \(People, Bike, Car\); set text_classes"),
        ("0 320 240 64 48", "line 2: coordinates outside"),
        ("0 0.1 0.2 0.3 0.2 0.1 0.4 0.5", "line 2: 8 numbers, expected 'class cx cy w h'"),
        ("person 0.5 0.5 0.1 0.1", "line 2: expected 'class cx cy w h', found 'person"),
    ],
)
def test_text_that_cannot_be_used_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "1.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError, match=said):
        read_yolo_boxes(tmp_path / "1.txt", CLASSES, TEXT, (24, 32))
    (tmp_path / "1.txt").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(DataError, match=r"1\.txt: unreadable annotation"):
        read_yolo_boxes(tmp_path / "1.txt", CLASSES, TEXT, (24, 32))


def test_msrs_has_boxes_and_maps(data_dir: Path) -> None:
    root = data_dir / "MSRS"
    assert "boxes" not in MSRS(root)[0]
    write_boxes(root / "boxes/00000D.xml", [("Car", (6, 5, 21, 19)), ("Tree", (1, 1, 9, 9))])
    write_boxes(root / "boxes/00001N.xml", [])
    first, second, third = (MSRS(root)[i] for i in range(3))
    assert first["boxes"].tolist() == [[6.0, 5.0, 21.0, 19.0]] and first["labels"].tolist() == [1]
    assert "mask" in first and second["boxes"].shape == (0, 4) and "boxes" not in third
    assert "boxes" not in collate([first, third]) and len(collate([first, second])["boxes"]) == 2
    assert "boxes" not in MSRS(root, boxes=False)[0]
    with pytest.warns(UserWarning, match="MSRS: 3 pairs have no box and are left out"):
        assert [pair.name for pair in MSRS(root, require_boxes=True).pairs] == ["00000D"]
    with pytest.raises(DataError, match="no pair has a box of Bike; check `classes`"):
        len(MSRS(root, require_boxes=True, classes=["Bike"]))
    with pytest.raises(ConfigError, match="require_boxes=true needs boxes"):
        MSRS(root, require_boxes=True, boxes=False)
    with pytest.raises(DataError, match="no box file of the 2 pairs"):
        len(MSRS(root, "test", include=["*"], boxes=True, box_dir=data_dir))


def test_published_text_boxes_of_msrs(data_dir: Path) -> None:
    folder = data_dir / "MSRS/detection/labels"
    folder.mkdir(parents=True)
    (folder / "1.txt").write_text("2 0.5 0.5 0.5 0.5\n")
    sample = MSRS(data_dir / "MSRS")[1]
    assert sample["name"] == "00001N" and sample["boxes"].tolist() == [[8.0, 6.0, 24.0, 18.0]]
    with pytest.raises(DataError, match="no such folder of boxes"):
        len(MSRS(data_dir / "MSRS", box_dir=data_dir / "elsewhere"))


def test_boxes_in_text_for_any_set(data_dir: Path, tmp_path: Path) -> None:
    for path in sorted((data_dir / "M3FD/Annotation").iterdir()):
        (tmp_path / "text" / f"{path.stem}.txt").parent.mkdir(exist_ok=True)
        (tmp_path / "text" / f"{path.stem}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    text: BoxDataset = M3FD(data_dir / "M3FD", label_dir=tmp_path / "text")
    assert (
        text[0]["labels"].tolist() == [1] and M3FD(data_dir / "M3FD")[0]["boxes"].tolist() != text[0]["boxes"].tolist()
    )
    swapped = M3FD(data_dir / "M3FD", label_dir=tmp_path / "text", text_classes=["Car", "People"])
    assert swapped[0]["labels"].tolist() == [0]
    assert text.cache_key() != swapped.cache_key()
    with pytest.raises(DataError, match="no such folder of labels"):
        len(M3FD(data_dir / "M3FD", label_dir=tmp_path / "nowhere"))


def test_a_split_shrinks_with_its_set() -> None:
    def parts(there: int, *cuts: tuple[int, int | None], published: int = 4200) -> list[tuple[int, int | None]]:
        ends = tuple(sorted({c for skip, limit in cuts for c in (skip, skip + (limit or 0))} - {0}))
        last = max(skip for skip, _ in cuts)
        known = {"there": there, "published": published, "cuts": ends, "last_skip": last}
        return [shrink(skip, limit, **known) for skip, limit in cuts]  # type: ignore[arg-type]

    assert parts(4200, (300, None), (0, 300)) == [(300, None), (0, 300)]
    assert parts(400, (300, None), (0, 300)) == [(300, None), (0, 300)]  # enough for every part
    with pytest.warns(UserWarning, match="50 of 4200 pairs are there, so the split shrinks"):
        assert parts(50, (300, None), (0, 300)) == [(4, None), (0, 4)]
        assert parts(50, (1050, None), (525, 525), (0, 525)) == [(13, None), (7, 6), (0, 7)]
        assert parts(3, (1050, None), (525, 525), (0, 525)) == [(2, None), (1, 1), (0, 1)]
    assert shrink(5, None, there=2, published=None) == (5, None)  # nothing to measure by


def test_fifty_pairs_of_m3fd(data_dir: Path, write: Writer) -> None:
    for i in range(6, 50):
        write(data_dir / f"M3FD/Vis/{i:05d}.png", i)
        write(data_dir / f"M3FD/Ir/{i:05d}.png", i, channels=1)
        write_boxes(data_dir / f"M3FD/Annotation/{i:05d}.xml", [("Car", (6, 5, 21, 19))])
    root = data_dir / "M3FD"
    train, test = M3FD(root, skip=300, shuffle_seed=0), M3FD(root, limit=300, shuffle_seed=0)
    FusionDataModule(train={"m3fd": train}, test={"m3fd": test})
    with pytest.warns(UserWarning, match="skip=300, limit=None becomes skip=4"):
        names = {pair.name for pair in train.pairs}
    with pytest.warns(UserWarning, match="limit=300 becomes skip=0, limit=4"):
        held_out = {pair.name for pair in test.pairs}
    assert len(names) == 46 and len(held_out) == 4 and not names & held_out
    share_cuts([alone := M3FD(root, limit=20)])
    assert len(alone) == 20  # no part of this split is left with nothing
    with pytest.raises(DataError, match="skip=6 leaves none of its 6 pairs"):
        len(M3FD(root, skip=6, include=[f"0000{i}" for i in range(6)]))


def test_verify_goes_on_where_a_set_is_missing(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data_dir / "VT5000/Train/RGB").rename(data_dir / "VT5000/Train/elsewhere")
    sets = {"train": VT5000(data_dir / "VT5000"), "test": VT5000(data_dir / "VT5000", "test")}
    data = FusionDataModule(train={"vt5000": sets["train"]}, test={"vt5000": sets["test"]})
    with pytest.raises(DataError, match=r"1 of 2 data sets are missing \(train VT5000 train\), see above; the others"):
        verify_all(data, 2)
    out = capsys.readouterr().out
    assert "missing: VT5000: " in out and "Train/RGB/1.jpg" in out
    row = next(line for line in out.splitlines() if line.startswith("test "))
    assert row.split()[4] == "2" and "2 maps" in row
    with pytest.raises(DataError, match="no such folder"):  # nothing at all: the reason itself
        verify_all(FusionDataModule(train={"vt5000": sets["train"]}), 2)


def test_references_of_sice(tmp_path: Path) -> None:
    for number, level in enumerate((10, 120, 250), 1):
        path = tmp_path / f"SICE/Dataset_Part1/3/{number}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (level,) * 3).save(path)
    (tmp_path / "SICE/Dataset_Part1/Label").mkdir()
    Image.new("RGB", (64, 48), (77,) * 3).save(tmp_path / "SICE/Dataset_Part1/Label/3.JPG")
    SICEPairs(tmp_path / "SICE", tmp_path / "without", references=False).prepare()
    assert "reference" not in SCIE(tmp_path / "without")[0]
    dataset = SCIE(SICEPairs(tmp_path / "SICE", tmp_path / "SCIE").prepare())
    assert round(float(dataset[0]["reference"].float().mean())) == 77 and len(dataset) == 1


def test_labels_need_a_judge_and_a_folder(data_dir: Path) -> None:
    from .test_data_configs import composed, main

    for options, said in (
        ([], r"action=label: no judge; give judge=coco"),
        (["judge=coco"], "out: not given"),
        (["judge=coco", f"out={data_dir}/new"], "weights of the detector are not part of this package"),
        (
            ["judge=mfnet", f"out={data_dir}/new", "part=val"],
            "part=val: this data has none; expected one of train, test",
        ),
    ):
        with pytest.raises(ConfigError, match=said):
            main(composed("msrs", data_dir, "action=label", *options))


def test_road_scene_takes_the_boxes_of_a_detector(data_dir: Path, tmp_path: Path) -> None:
    root = data_dir / "RoadScene"
    plain = RoadScene(root)
    assert "boxes" not in plain[0]
    height, width = plain[0]["a"].shape[-2:]
    boxes = tmp_path / "boxes"
    for index, pair in enumerate(plain.pairs):
        found = [[1.0, 2.0, 5.0, 6.0]] if index else []
        write_voc_boxes(
            boxes / f"{pair.name}.xml", (height, width), torch.tensor(found).reshape(-1, 4), ["Car"] * len(found)
        )
    labelled = RoadScene(root, label_dir=boxes)
    assert len(labelled) == len(plain) and not len(labelled[0]["boxes"])
    assert labelled[1]["boxes"].tolist() == [[1.0, 2.0, 5.0, 6.0]] and labelled[1]["labels"].tolist() == [1]
    with pytest.warns(UserWarning, match="1 pairs have no box"):
        assert len(RoadScene(root, label_dir=boxes, require_boxes=True)) == len(plain) - 1
    (boxes / f"{plain.pairs[0].name}.xml").unlink()
    with pytest.raises(DataError, match="no label for 1 of"):
        len(RoadScene(root, label_dir=boxes))
