"""Miniature data sets in the published layouts, and a model that remembers what it was given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

Writer = Callable[..., Path]


def picture(seed: int, height: int = 24, width: int = 32, channels: int = 3) -> np.ndarray:
    """Random but smooth uint8 picture, different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    image = Image.fromarray(coarse[..., 0] if channels == 1 else coarse)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def write() -> Writer:
    """`write(path, seed=0, **size)` saves a picture and returns its path."""

    def _write(path: Path, seed: int = 0, **size: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed, **size)).save(path)
        return path

    return _write


@pytest.fixture
def data_dir(tmp_path: Path, write: Writer) -> Path:
    """Every data set of the package, a few pairs each."""
    for split, names in (("train", range(7)), ("test", range(3))):
        for i in names:
            write(tmp_path / f"LLVIP/visible/{split}/{i:06d}.jpg", i)
            write(tmp_path / f"LLVIP/infrared/{split}/{i:06d}.jpg", 100 + i, channels=1)
    for i in range(4):
        write(tmp_path / f"RoadScene/crop_LR_visible/FLIR_{i}.jpg", i)
        write(tmp_path / f"RoadScene/cropinfrared/FLIR_{i}.jpg", 100 + i, channels=1)
        write(tmp_path / f"TNO/vi/{i}.png", i)
        write(tmp_path / f"TNO/ir/{i}.png", 100 + i)
        write(tmp_path / f"VIFB/VI/car{i}.jpg", i)
        write(tmp_path / f"VIFB/IR/car{i}.jpg", 100 + i)
        write(tmp_path / f"SCIE/oe/p1_{i:03d}.jpg", i)
        write(tmp_path / f"SCIE/ue/p1_{i:03d}.jpg", 100 + i)
        write(tmp_path / f"RealMFF/imageA/{i}_A.png", 100 + i)
        write(tmp_path / f"RealMFF/imageB/{i}_B.png", i)
        write(tmp_path / f"RealMFF/Fusion/{i}_F.png", 200 + i)
        write(tmp_path / f"MFI-WHU/source_1/{i}.jpg", 100 + i)
        write(tmp_path / f"MFI-WHU/source_2/{i}.jpg", i)
        for name in ("MEFB", "MFIF", "MFIFB"):
            write(tmp_path / f"{name}/input/scene{i}/scene{i}_A.png", 100 + i)
            write(tmp_path / f"{name}/input/scene{i}/scene{i}_B.JPG", i)
            write(tmp_path / f"{name}/input/scene{i}/original_exposure_3.png", 300 + i)
    add_labelled_sets(tmp_path, write)
    add_other_sets(tmp_path, write)
    return tmp_path


def add_labelled_sets(root: Path, write: Writer) -> None:
    """M3FD, FLIR, FMB, VT5000 and MSRS with their labels; 32x24 pixels, boxes at (5, 4) to (20, 18)."""
    for i in range(6):
        write(root / f"M3FD/Vis/{i:05d}.png", i)
        write(root / f"M3FD/Ir/{i:05d}.png", 100 + i, channels=1)
        write_boxes(root / f"M3FD/Annotation/{i:05d}.xml", [("Car", (6, 5, 21, 19)), ("Tree", (1, 1, 9, 9))])
    for i in range(5):
        write(root / f"FLIR/align/JPEGImages/FLIR_{i:05d}_RGB.jpg", i)
        write(root / f"FLIR/align/JPEGImages/FLIR_{i:05d}_PreviewData.jpeg", 100 + i, channels=1)
        boxes = [("person", (6, 5, 21, 19)), ("dog", (1, 1, 9, 9))]
        write_boxes(root / f"FLIR/align/Annotations/FLIR_{i:05d}_PreviewData.xml", boxes)
    (root / "FLIR/align/align_train.txt").write_text("FLIR_00000_PreviewData\nFLIR_00003\nFLIR_00004\n")
    (root / "FLIR/align/align_validation.txt").write_text("FLIR_00001_PreviewData\nFLIR_00002_PreviewData\n")
    for split, count in (("train", 4), ("test", 2)):
        for i in range(count):
            write(root / f"FMB/{split}/Visible/{i:05d}.png", i)
            write(root / f"FMB/{split}/Infrared/{i:05d}.png", 100 + i)
            write_mask(root / f"FMB/{split}/Label/{i:05d}.png", [0, 1, 8, 14])
            write(root / f"VT5000/{split.capitalize()}/RGB/{i}.jpg", i)
            write(root / f"VT5000/{split.capitalize()}/T/{i}.jpg", 100 + i)
            write_mask(root / f"VT5000/{split.capitalize()}/GT/{i}.png", [0, 255, 0, 250])
            name = f"{i:05d}{'DN'[i % 2]}"
            write(root / f"MSRS/{split}/vi/{name}.png", i)
            write(root / f"MSRS/{split}/ir/{name}.png", 100 + i, channels=1)
            write_mask(root / f"MSRS/{split}/Segmentation_labels/{name}.png", [0, 1, 2, 8])


def add_other_sets(root: Path, write: Writer) -> None:
    """The Harvard atlas, RGB-NIR scenes, QuickBird, photographs, and patches as GIFNet prepares them."""
    for i in range(3):
        for kind in ("PET", "SPECT", "CT"):
            write(root / f"Harvard/{kind}-MRI/MRI/{i}.png", i, channels=1)
            write(root / f"Harvard/{kind}-MRI/{kind}/{i}.png", 100 + i, channels=1 if kind == "CT" else 3)
        for scene in ("country", "street"):
            write(root / f"nirscene1/{scene}/{i:04d}_rgb.tiff", i)
            write(root / f"nirscene1/{scene}/{i:04d}_nir.tiff", 100 + i, channels=1)
        write(root / f"photos/photo{i}.jpg", i)
        for folder in ("visible", "infrared", "visible_focus_far", "visible_focus_near"):
            write(root / f"GIFNet/{folder}/train/{i}.png", i + 10 * len(folder))
    for i in range(2):
        write(root / f"QuickBird/PAN/{i}.tif", i, channels=1)
        write(root / f"QuickBird/MS/{i}.tif", 100 + i, channels=4)


def write_boxes(
    path: Path, boxes: list[tuple[str, tuple[int, int, int, int]]], size: tuple[int, int] = (32, 24)
) -> Path:
    """A VOC file; corners count from 1."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in boxes
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    written = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path.write_text(f"<annotation>{written}{objects}</annotation>")
    return path


def write_mask(path: Path, quarters: list[int], height: int = 24, width: int = 32) -> Path:
    """A gray picture with one value in each quarter: top left, top right, bottom left, bottom right."""
    values = np.asarray(quarters, dtype=np.uint8).reshape(2, 2).repeat(height // 2, 0).repeat(width // 2, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


class Recorder(pl.LightningModule):
    """One weight, and a list of what each training step saw: task, names and a checksum of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[str, tuple[str, ...], float]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Record the batch."""
        assert batch["a"].dtype == torch.float32
        checksum = float((batch["a"].double() + 3 * batch["b"].double()).sum())
        self.seen.append((batch["task"], tuple(batch["name"]), checksum))
        return self.weight * batch["a"].mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Nothing to do; checkpoints are also saved around validation."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.1)
