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
    return tmp_path


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
