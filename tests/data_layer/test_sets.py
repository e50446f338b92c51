"""Every data set in its published layout: who is `a`, who is `b`, what is missing and how that is said."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from fusion.data import (
    FLIR,
    FMB,
    LLVIP,
    M3FD,
    MEFB,
    MFIF,
    MFIFB,
    MFIWHU,
    MSRS,
    RGBNIR,
    SCIE,
    TNO,
    VIFB,
    VT5000,
    FocusQuadruples,
    HarvardMedical,
    PairDataset,
    RealMFF,
    RoadScene,
    SampleKey,
    collate,
    read_image,
    train_transform,
)
from fusion.errors import ConfigError, DataError

from .conftest import Writer

LAYOUTS = [
    (LLVIP, "LLVIP", "vif", "visible/train/000000.jpg", "infrared/train/000000.jpg", 7),
    (RoadScene, "RoadScene", "vif", "crop_LR_visible/FLIR_0.jpg", "cropinfrared/FLIR_0.jpg", 4),
    (TNO, "TNO", "vif", "vi/0.png", "ir/0.png", 4),
    (VIFB, "VIFB", "vif", "VI/car0.jpg", "IR/car0.jpg", 4),
    (SCIE, "SCIE", "mef", "oe/p1_000.jpg", "ue/p1_000.jpg", 4),
    (MEFB, "MEFB", "mef", "input/scene0/scene0_B.JPG", "input/scene0/scene0_A.png", 4),
    (RealMFF, "RealMFF", "mff", "imageB/0_B.png", "imageA/0_A.png", 4),
    (MFIWHU, "MFI-WHU", "mff", "source_2/0.jpg", "source_1/0.jpg", 4),
    (MFIF, "MFIF", "mff", "input/scene0/scene0_B.JPG", "input/scene0/scene0_A.png", 4),
    (MFIFB, "MFIFB", "mff", "input/scene0/scene0_B.JPG", "input/scene0/scene0_A.png", 4),
    (M3FD, "M3FD", "vif", "Vis/00000.png", "Ir/00000.png", 6),
    (
        FLIR,
        "FLIR",
        "vif",
        "align/JPEGImages/FLIR_00000_RGB.jpg",
        "align/JPEGImages/FLIR_00000_PreviewData.jpeg",
        3,
    ),
    (FMB, "FMB", "vif", "train/Visible/00000.png", "train/Infrared/00000.png", 4),
    (VT5000, "VT5000", "vif", "Train/RGB/0.jpg", "Train/T/0.jpg", 4),
    (MSRS, "MSRS", "vif", "train/vi/00000D.png", "train/ir/00000D.png", 4),
    (HarvardMedical, "Harvard", "vif", "PET-MRI/MRI/0.png", "PET-MRI/PET/0.png", 3),
    (RGBNIR, "nirscene1", "vif", "country/0000_rgb.tiff", "country/0000_nir.tiff", 6),
    (FocusQuadruples, "GIFNet", "vif", "visible/train/0.png", "infrared/train/0.png", 3),
]


@pytest.mark.parametrize(("cls", "folder", "task", "a", "b", "count"), LAYOUTS, ids=[row[1] for row in LAYOUTS])
def test_layout(data_dir: Path, cls: type[PairDataset], folder: str, task: str, a: str, b: str, count: int) -> None:
    dataset = cls(data_dir / folder)
    sample = dataset[0]
    assert len(dataset) == count
    assert (dataset.task, sample["task"], sample["dataset"]) == (task, task, cls.__name__)
    for key, path in (("a", a), ("b", b)):
        image = read_image(data_dir / folder / path)
        assert torch.equal(sample[key], image.pixels)
        assert sample[f"{key}_is_gray"] == image.is_gray
        assert sample[key].dtype == torch.uint8


@pytest.mark.parametrize("cls", [row[0] for row in LAYOUTS])
def test_missing_data_shows_what_was_expected(tmp_path: Path, cls: type[PairDataset]) -> None:
    dataset = cls(tmp_path / "nothing")  # no complaint before the first use
    with pytest.raises(DataError) as error:
        len(dataset)
    message = str(error.value)
    assert message.startswith(f"{cls.__name__}: {tmp_path / 'nothing'}")
    assert "no such folder" in message and cls.layout in message and cls.page in message


def test_references_come_along_where_there_are_any(data_dir: Path, write: Writer) -> None:
    sample = RealMFF(data_dir / "RealMFF")[2]
    assert torch.equal(sample["reference"], read_image(data_dir / "RealMFF/Fusion/2_F.png").pixels)
    assert "reference" not in MFIWHU(data_dir / "MFI-WHU")[0]
    for i in range(4):
        write(data_dir / f"MFI-WHU/full_clear/{i}.jpg", 200 + i, height=20)
    with pytest.raises(DataError, match=r"full_clear/0\.jpg is 32x20, its sources 32x24"):
        MFIWHU(data_dir / "MFI-WHU")[0]
    assert MFIWHU(data_dir / "MFI-WHU", match_size="a")[0]["reference"].shape == (3, 24, 32)


def test_splits(data_dir: Path) -> None:
    assert len(LLVIP(data_dir / "LLVIP", "test")) == 3
    with pytest.raises(ConfigError, match="LLVIP: unknown split 'val', expected one of: train, test"):
        LLVIP(data_dir / "LLVIP", "val")


def test_selection_reaches_the_data_set(data_dir: Path) -> None:
    assert [pair.name for pair in TNO(data_dir / "TNO", include=["1", "3"]).pairs] == ["1", "3"]
    assert [pair.name for pair in TNO(data_dir / "TNO", exclude=["0"], skip=1, limit=1).pairs] == ["2"]
    with pytest.raises(DataError, match="TNO .*names to include do not exist: 9"):
        len(TNO(data_dir / "TNO", include=["9"]))


def test_unknown_options_are_refused(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match="unknown cache 'tape', expected none, ram or disk"):
        TNO(data_dir / "TNO", cache="tape")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown match_size 'c'"):
        TNO(data_dir / "TNO", match_size="c")  # type: ignore[arg-type]


def test_a_damaged_image_is_named_when_it_is_asked_for(data_dir: Path) -> None:
    (data_dir / "TNO/ir/2.png").write_bytes((data_dir / "TNO/ir/2.png").read_bytes()[:60])
    dataset = TNO(data_dir / "TNO")
    assert dataset[1]["name"] == "1"
    with pytest.raises(DataError, match=r"ir/2\.png: unreadable or truncated"):
        dataset[2]


def test_ram_cache_reads_each_file_once_and_is_not_touched_by_transforms(data_dir: Path) -> None:
    root = data_dir / "TNO"
    expected = TNO(root)[3]["a"].clone()
    dataset = TNO(root, cache="ram", transform=train_transform(8))
    dataset.preload(threads=2)
    for path in (root / "vi").iterdir():
        path.unlink()
    assert dataset[SampleKey(3, 1)]["a"].shape == (3, 8, 8)
    assert torch.equal(dataset.load(3)["a"], expected)
    with pytest.raises(DataError):
        TNO(root)[0]


def test_indices(data_dir: Path) -> None:
    dataset = TNO(data_dir / "TNO")
    assert dataset[-1]["name"] == "3"
    assert [sample["name"] for sample in dataset] == ["0", "1", "2", "3"]
    with pytest.raises(IndexError):
        dataset[4]


def test_plain_data_loader_varies_crops_from_epoch_to_epoch_and_worker_to_worker(data_dir: Path) -> None:
    for name in ("1", "2", "3"):  # four times the same pair: only the crop can differ
        (data_dir / f"TNO/vi/{name}.png").write_bytes((data_dir / "TNO/vi/0.png").read_bytes())
        (data_dir / f"TNO/ir/{name}.png").write_bytes((data_dir / "TNO/ir/0.png").read_bytes())
    dataset = TNO(data_dir / "TNO", transform=train_transform(16, (0.2, 0.5)))
    loader = DataLoader(dataset, batch_size=1, num_workers=2, collate_fn=collate)
    crops = [batch["a"] for _ in range(2) for batch in loader]
    assert len({crop.numpy().tobytes() for crop in crops}) == 8
