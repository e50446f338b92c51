"""Boxes and maps: what is read, and that they are cut, flipped, turned and resized with the images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.data import (
    FLIR,
    FMB,
    LLVIP,
    M3FD,
    MSRS,
    VT5000,
    FusionDataModule,
    JointDataset,
    PairDataset,
    RoadScene,
    SampleKey,
    collate,
    to_float,
    train_transform,
)
from fusion.data.files.labels import IGNORE, read_class_map, read_voc_boxes
from fusion.errors import ConfigError, DataError

from .conftest import write_boxes, write_mask


def test_boxes_count_from_zero_and_other_classes_go(data_dir: Path) -> None:
    sample = M3FD(data_dir / "M3FD")[0]
    assert sample["boxes"].tolist() == [[5.0, 4.0, 20.0, 18.0]]
    assert sample["labels"].tolist() == [1]  # Car is the second of TarDAL's order
    assert FLIR(data_dir / "FLIR")[0]["labels"].tolist() == [1]  # person; the dog is left out
    other = M3FD(data_dir / "M3FD", classes=["Tree", "Car"], offset=0)[0]
    assert other["boxes"].tolist() == [[6.0, 5.0, 21.0, 19.0], [1.0, 1.0, 9.0, 9.0]]
    assert other["labels"].tolist() == [1, 0]


def test_split_lists_of_flir(data_dir: Path) -> None:
    assert [pair.name for pair in FLIR(data_dir / "FLIR").pairs] == ["FLIR_00000", "FLIR_00003", "FLIR_00004"]
    assert [pair.name for pair in FLIR(data_dir / "FLIR/align", "test").pairs] == ["FLIR_00001", "FLIR_00002"]
    lists = data_dir / "FLIR/align/ImageSets/Main"
    lists.mkdir(parents=True)
    (data_dir / "FLIR/align/align_validation.txt").rename(lists / "align_validation.txt")
    assert len(FLIR(data_dir / "FLIR", "test")) == 2
    (lists / "align_validation.txt").write_text("FLIR_00001\nFLIR_77777_PreviewData\n")
    with pytest.raises(DataError, match=r"align_validation\.txt: 1 names have no pair of images: FLIR_77777"):
        len(FLIR(data_dir / "FLIR", "test"))
    (lists / "align_validation.txt").unlink()
    with pytest.raises(DataError, match=r"align_validation\.txt: no list of this split"):
        len(FLIR(data_dir / "FLIR", "test"))


def test_maps(data_dir: Path) -> None:
    fourteen = FMB(data_dir / "FMB")[0]["mask"]
    assert fourteen.dtype == torch.uint8 and fourteen.shape == (24, 32)
    assert [int(fourteen[y, x]) for y in (0, 23) for x in (0, 31)] == [IGNORE, 0, 7, 13]
    fifteen = FMB(data_dir / "FMB", num_classes=15)
    assert [int(fifteen[0]["mask"][y, x]) for y in (0, 23) for x in (0, 31)] == [0, 1, 8, 14]
    assert len(fifteen.class_names) == 15 and len(FMB(data_dir / "FMB").class_names) == 14
    saliency = VT5000(data_dir / "VT5000", "test")[1]["mask"]
    assert [int(saliency[y, x]) for y in (0, 23) for x in (0, 31)] == [0, 1, 0, 1]
    assert sorted(MSRS(data_dir / "MSRS")[0]["mask"].unique().tolist()) == [0, 1, 2, 8]
    with pytest.raises(ConfigError, match="num_classes=9, expected 14"):
        FMB(data_dir / "FMB", num_classes=9)


def test_labels_of_msrs_may_lie_in_a_folder_of_their_own(data_dir: Path) -> None:
    (data_dir / "MSRS/Segmentation_labels").mkdir()
    (data_dir / "MSRS/train/Segmentation_labels").rename(data_dir / "MSRS/Segmentation_labels/train")
    assert "mask" in MSRS(data_dir / "MSRS")[0]


def test_folders_may_be_written_in_another_case(data_dir: Path) -> None:
    (data_dir / "VT5000/Train").rename(data_dir / "VT5000/train")
    (data_dir / "M3FD/Ir").rename(data_dir / "M3FD/ir")
    assert len(VT5000(data_dir / "VT5000")) == 4
    assert len(M3FD(data_dir / "M3FD")) == 6


@pytest.mark.parametrize(
    ("cls", "folder", "label", "key"),
    [
        (M3FD, "M3FD", "Annotation/00001.xml", "boxes"),
        (FLIR, "FLIR", "align/Annotations/FLIR_00003_PreviewData.xml", "boxes"),
        (FMB, "FMB", "train/Label/00001.png", "mask"),
        (VT5000, "VT5000", "Train/GT/1.png", "mask"),
        (MSRS, "MSRS", "train/Segmentation_labels/00001N.png", "mask"),
    ],
)
def test_labels_missing(data_dir: Path, cls: type[PairDataset], folder: str, label: str, key: str) -> None:
    root = data_dir / folder
    assert key in cls(root)[0]
    assert key not in cls(root, labels=False)[0]  # type: ignore[call-arg]
    (root / label).unlink()
    with pytest.raises(DataError, match=f"{cls.__name__}: .*no label for 1 of . pairs: .*labels=false"):
        len(cls(root))
    assert len(cls(root, labels=False)) > 1  # type: ignore[call-arg]
    parent = (root / label).parent
    parent.rename(parent.with_name("elsewhere"))
    assert key not in cls(root)[0]
    with pytest.raises(DataError, match="no such folder of labels. Expected layout"):
        len(cls(root, labels=True))  # type: ignore[call-arg]


def test_pairs_without_a_box_can_be_left_out(data_dir: Path) -> None:
    for i in range(7):
        boxes = [("person", (6, 5, 21, 19))] if i % 2 else [("person", (9, 9, 9, 12))]  # no width: no box
        write_boxes(data_dir / f"LLVIP/Annotations/{i:06d}.xml", boxes)
    assert len(LLVIP(data_dir / "LLVIP")) == 7
    assert LLVIP(data_dir / "LLVIP")[0]["boxes"].shape == (0, 4)
    with pytest.warns(UserWarning, match="LLVIP: 4 pairs have no box and are left out"):
        assert len(LLVIP(data_dir / "LLVIP", require_boxes=True)) == 3
    with pytest.raises(DataError, match="no pair has a box of bird; check `classes`"):
        len(LLVIP(data_dir / "LLVIP", require_boxes=True, classes=["bird"]))
    with pytest.raises(ConfigError, match="require_boxes=true needs labels"):
        LLVIP(data_dir / "LLVIP", require_boxes=True, labels=False)


def test_annotations_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    path = write_boxes(tmp_path / "x.xml", [("Car", (6, 5, 40, 30))])
    assert read_voc_boxes(path, ["Car"], (24, 32))[0].tolist() == [[5.0, 4.0, 32.0, 24.0]]  # clipped
    with pytest.raises(DataError, match=r"x\.xml: made for an image of 32x24, but the image is 64x48; set match_size"):
        read_voc_boxes(path, ["Car"], (48, 64))
    assert read_voc_boxes(path, ["Car"], (48, 64), rescale=True)[0].tolist() == [[10.0, 8.0, 64.0, 48.0]]
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    assert len(read_voc_boxes(path, ["Car"], (24, 32))[0]) == 0
    assert len(read_voc_boxes(path, ["Car"], (24, 32), difficult=True)[0]) == 1
    path.write_text(path.read_text().replace("<xmin>6</xmin>", ""))
    with pytest.raises(DataError, match=r"x\.xml: an object without xmin"):
        read_voc_boxes(path, ["Car"], (24, 32), difficult=True)


def test_maps_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "m.png", [0, 1, 2, 3])
    with pytest.raises(DataError, match=r"m\.png is 32x24, its images 64x48; set match_size"):
        read_class_map(path, (48, 64))
    assert read_class_map(path, (48, 64), resize=True).shape == (48, 64)
    image = Image.open(path)
    image.convert("RGB").save(tmp_path / "rgb.png")  # three equal channels
    assert torch.equal(read_class_map(tmp_path / "rgb.png", (24, 32)), read_class_map(path, (24, 32)))
    palette = image.convert("P")
    palette.putpalette([10 * i for i in range(256 * 3) if i < 25] + [0] * 743)
    palette.save(tmp_path / "p.png")
    assert torch.equal(read_class_map(tmp_path / "p.png", (24, 32)), read_class_map(path, (24, 32)))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png: a color picture, expected class numbers"):
        read_class_map(tmp_path / "c.png", (24, 32))
    Image.fromarray(np.full((24, 32), 300, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: values up to 300"):
        read_class_map(tmp_path / "deep.png", (24, 32))
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"m\.png: unreadable or truncated class map"):
        read_class_map(tmp_path / "m.png", (24, 32))


TRANSFORMS = {
    "share": {"scale": (0.3, 1.0)},
    "zoom": {"zoom": (0.4, 1.5)},
    "border": {"border": 0.3},
    "turned": {"vflip": 0.5, "rot90": True},
    "resized": {"resize": (40, 56)},
}


@pytest.mark.parametrize("options", TRANSFORMS.values(), ids=TRANSFORMS)
def test_labels_are_cut_like_the_images(options: dict) -> None:
    """A white rectangle in a black image, its map and its box must stay on top of each other."""
    a = torch.zeros(3, 60, 80, dtype=torch.uint8)
    a[:, 20:45, 30:60] = 255
    given = {"a": a, "b": a.clone(), "mask": (a[0] > 127).to(torch.uint8), "task": "vif", "name": "x"}
    given |= {"boxes": torch.tensor([[30.0, 20.0, 60.0, 45.0]]), "labels": torch.tensor([4])}
    transform = train_transform(32, **options)
    seen = 0
    for seed in range(30):
        out = transform(given, seed)
        white = out["a"][0] > 127
        assert torch.equal(out["a"], out["b"])
        assert out["mask"].shape == (32, 32)
        assert (white.to(torch.uint8) != out["mask"]).float().mean() < 0.12  # nearest neighbour is half a pixel off
        assert len(out["boxes"]) == len(out["labels"]) <= 1
        if len(out["boxes"]) == 0:
            assert white.float().mean() < 0.5  # a tenth of the box fills 75 of 169 pixels of the closest crop
            continue
        seen += 1
        rows, columns = white.nonzero().T
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert (found - out["boxes"][0]).abs().max() <= 1.6
        assert out["boxes"].min() >= 0 and out["boxes"].max() <= 32
    assert seen > 15


def test_boxes_of_which_little_is_left_go() -> None:
    from fusion.data import eval_transform

    a = torch.zeros(3, 60, 80, dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 25.0, 30.0, 35.0], [0.0, 25.0, 21.0, 35.0], [30.0, 20.0, 50.0, 40.0]])
    given = {"a": a, "b": a, "boxes": boxes, "labels": torch.tensor([7, 8, 9])}
    out = eval_transform(center_crop=40)(given)  # type: ignore[misc]  # columns 20 to 60, rows 10 to 50
    assert out["labels"].tolist() == [7, 9]  # 50 %, 5 % and all of them are left
    assert out["boxes"].tolist() == [[0.0, 15.0, 10.0, 25.0], [10.0, 10.0, 30.0, 30.0]]
    assert torch.equal(given["boxes"], boxes)


def test_labels_travel_in_batches(data_dir: Path) -> None:
    write_boxes(data_dir / "M3FD/Annotation/00001.xml", [])
    batch = collate([M3FD(data_dir / "M3FD")[i] for i in (0, 1)])
    assert [boxes.shape for boxes in batch["boxes"]] == [(1, 4), (0, 4)]
    assert [labels.dtype for labels in batch["labels"]] == [torch.int64, torch.int64]
    masks = to_float(collate([FMB(data_dir / "FMB")[i] for i in (0, 1)]))["mask"]
    assert masks.shape == (2, 24, 32) and masks.dtype == torch.int64
    mixed = collate([M3FD(data_dir / "M3FD")[0], FMB(data_dir / "FMB")[0]])
    assert "boxes" not in mixed and "mask" not in mixed


def test_roadscene_takes_the_boxes_that_are_given(data_dir: Path, tmp_path: Path) -> None:
    assert "boxes" not in RoadScene(data_dir / "RoadScene")[0]
    for i in range(4):
        write_boxes(tmp_path / f"boxes/FLIR_{i}.xml", [("Car", (6, 5, 21, 19))] if i else [])
    given = RoadScene(data_dir / "RoadScene", label_dir=tmp_path / "boxes", require_boxes=True)
    with pytest.warns(UserWarning, match="1 pairs have no box"):
        assert [pair.name for pair in given.pairs] == ["FLIR_1", "FLIR_2", "FLIR_3"]
    assert given[0]["boxes"].tolist() == [[5.0, 4.0, 20.0, 18.0]] and given[0]["labels"].tolist() == [1]


def test_a_small_set_can_come_several_times_in_a_pass(data_dir: Path) -> None:
    parts = {
        "m3fd": M3FD(data_dir / "M3FD", group="boxes", limit=1, repeat=3),
        "flir": FLIR(data_dir / "FLIR", group="boxes"),
    }
    data = FusionDataModule(train=parts, val={"m3fd": M3FD(data_dir / "M3FD", repeat=2)}, crop_size=8, num_workers=0)
    data.setup("fit")
    assert data._joint["train"].spans == {"boxes": range(0, 6)} and len(data._joint["val"]) == 6
    assert [data._joint["train"][i]["dataset"] for i in (0, 1, 2, 5)] == ["M3FD", "M3FD", "M3FD", "FLIR"]
    with pytest.raises(ConfigError, match="M3FD: repeat=0: expected at least 1"):
        M3FD(data_dir / "M3FD", repeat=0)


def test_crops_can_be_laid_on_objects() -> None:
    image = torch.zeros(3, 90, 120, dtype=torch.uint8)
    boxes, labels = torch.tensor([[100.0, 70, 110, 80]]), torch.tensor([1])
    mask = torch.zeros(90, 120, dtype=torch.uint8)
    mask[3:6, 4:8], mask[50, 60] = 2, IGNORE
    sample = {"a": image, "b": image, "boxes": boxes, "labels": labels}
    on_box = train_transform([30, 40], zoom=[0.9, 1.1], objects=1.0)
    assert all(len(on_box(sample, seed)["boxes"]) == 1 for seed in range(20))
    on_map = train_transform([30, 40], zoom=[1.0, 1.0], objects=1.0)
    assert all((on_map({**sample, "mask": mask}, seed)["mask"] == 2).any() for seed in range(20))  # the map goes first
    anywhere, somewhere = (train_transform([30, 40], zoom=[0.9, 1.1], objects=share) for share in (0.0, 1.0))
    assert {len(anywhere(sample, seed)["boxes"]) for seed in range(20)} == {0, 1}
    empty = {"a": image + torch.arange(120, dtype=torch.uint8), "b": image, "mask": 0 * mask}
    assert len({int(somewhere(empty, seed)["a"][0, 0, 0]) for seed in range(20)}) > 5  # without an object: anywhere
    with pytest.raises(ConfigError, match="objects=0.5 needs zoom"):
        train_transform([30, 40], objects=0.5)
    with pytest.raises(ConfigError, match="objects=2"):
        train_transform([30, 40], zoom=[1.0, 1.0], objects=2)


def test_sets_of_one_task_can_take_turns(data_dir: Path) -> None:
    parts = [
        M3FD(data_dir / "M3FD", group="detection", instruction="object detection task"),
        FMB(data_dir / "FMB", group="segmentation", instruction="semantic segmentation task"),
        VT5000(data_dir / "VT5000"),
    ]
    joint = JointDataset(parts, ["segmentation", "detection"], {"detection": train_transform(16)})
    assert joint.spans == {"segmentation": range(0, 4), "detection": range(4, 10)}
    first, last = joint[SampleKey(0, 1)], joint[SampleKey(9, 1)]
    assert (first["task"], first["instruction"], first["a"].shape) == ("vif", "semantic segmentation task", (3, 24, 32))
    assert (last["instruction"], last["a"].shape) == ("object detection task", (3, 16, 16))
    assert collate([first])["instruction"] == ["semantic segmentation task"]


def test_reading_at_one_size_takes_the_labels_along(data_dir: Path) -> None:
    sample = M3FD(data_dir / "M3FD", resize=[48, 96])[0]
    assert sample["a"].shape == sample["b"].shape == (3, 48, 96)
    assert sample["boxes"].tolist() == [[15.0, 8.0, 60.0, 36.0]]
    assert FMB(data_dir / "FMB", resize=12)[0]["mask"].shape == (12, 16)
    with pytest.raises(ConfigError, match="resize=0: expected"):
        M3FD(data_dir / "M3FD", resize=0)


def test_labels_follow_matched_sizes(data_dir: Path) -> None:
    for folder in ("Vis", "Ir"):
        path = data_dir / f"M3FD/{folder}/00000.png"
        Image.open(path).resize((64, 48)).save(path)
    with pytest.raises(DataError, match=r"00000\.xml: made for an image of 32x24, but the image is 64x48"):
        M3FD(data_dir / "M3FD")[0]
    assert M3FD(data_dir / "M3FD", match_size="a")[0]["boxes"].tolist() == [[10.0, 8.0, 40.0, 36.0]]


def test_boxes_may_stay_in_the_pixels_of_their_file(data_dir: Path) -> None:
    """As the released code of MoE-Fusion has it: resized images, boxes that are clipped alone."""
    for path in sorted((data_dir / "M3FD/Annotation").glob("*.xml")):
        write_boxes(path, [("Car", (6, 5, 21, 19)), ("Bus", (21, 5, 31, 9))])
    options = {"resize": [12, 16], "require_boxes": True}
    scaled, official = (M3FD(data_dir / "M3FD", boxes=kind, **options)[0] for kind in ("scaled", "official"))
    assert torch.equal(scaled["a"], official["a"]) and official["a"].shape == (3, 12, 16)
    assert scaled["boxes"].tolist() == [[2.5, 2.0, 10.0, 9.0], [10.0, 2.0, 15.0, 4.0]]
    assert official["boxes"].tolist() == [[5.0, 4.0, 16.0, 12.0]]  # the bus lies beyond the resized image
    assert official["labels"].tolist() == [1]
    write_boxes(data_dir / "M3FD/Annotation/00002.xml", [("Bus", (21, 5, 31, 9))])
    with pytest.warns(UserWarning, match="1 pairs have no box"):
        assert len(M3FD(data_dir / "M3FD", boxes="official", **options)) == 5
    with pytest.raises(ConfigError, match="boxes=original is not one of scaled, official"):
        M3FD(data_dir / "M3FD", boxes="original")
    with pytest.raises(ConfigError, match="boxes=official is about images that are resized"):
        M3FD(data_dir / "M3FD", boxes="official")


def test_training_pairs_may_be_mosaics(data_dir: Path) -> None:
    plain, mosaic = (M3FD(data_dir / "M3FD", mosaic=share, mosaic_size=40) for share in (0.0, 1.0))
    transform = train_transform(None, resize=[16, 16], hflip=0.5)
    assert torch.equal(plain.draw(2, 5)["a"], plain.load(2)["a"])
    made, again, other = (mosaic.draw(2, seed) for seed in (5, 5, 6))
    assert made["a"].shape == (3, 40, 40) and made["name"] == "00002" and made["b_is_gray"] and not made["a_is_gray"]
    assert torch.equal(made["a"], again["a"]) and not torch.equal(made["a"], other["a"])
    assert mosaic.draw(2, 5, transform)["b"].shape == (3, 16, 16)
    half = M3FD(data_dir / "M3FD", mosaic=0.5, mosaic_size=40)
    assert 3 < sum(half.draw(0, seed)["a"].shape[-1] == 40 for seed in range(20)) < 17
    with pytest.raises(ConfigError, match="mosaic=2: expected a share"):
        M3FD(data_dir / "M3FD", mosaic=2)
    with pytest.raises(ConfigError, match="mosaic_size=0: expected"):
        M3FD(data_dir / "M3FD", mosaic_size=0)
