"""Miniature labelled scenes: a warm square on a textured, dark street, in the layouts of M3FD, FMB and VT5000."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fusion.downstream.saliency.network import SaliencyLogits

SIDE = 32


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    """Visible (H, W, 3) and infrared (H, W) uint8, and the square x0, y0, x1, y1."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 120, (6, 6, 3), dtype=np.uint8)
    visible = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).copy()
    x, y = rng.integers(3, SIDE - 15, 2)
    box = (int(x), int(y), int(x) + 11, int(y) + 11)
    infrared = rng.integers(30, 70, (SIDE, SIDE), dtype=np.uint8)
    infrared[box[1] : box[3], box[0] : box[2]] = 150
    return visible, infrared, box


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture(scope="session")
def labelled_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and two test pairs of each of the three sets (M3FD: eight)."""
    root = tmp_path_factory.mktemp("labelled")
    for i in range(8):
        visible, infrared, (x0, y0, x1, y1) = scene(i)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[y0:y1, x0:x1] = 1
        split = "train" if i < 6 else "test"
        save(visible, root / f"FMB/{split}/Visible/{i}.png")
        save(infrared, root / f"FMB/{split}/Infrared/{i}.png")
        save(1 + mask, root / f"FMB/{split}/Label/{i}.png")
        save(visible, root / f"VT5000/{split.capitalize()}/RGB/{i}.png")
        save(infrared, root / f"VT5000/{split.capitalize()}/T/{i}.png")
        save(255 * mask, root / f"VT5000/{split.capitalize()}/GT/{i}.png")
        save(visible, root / f"M3FD/Vis/{i:05d}.png")
        save(infrared, root / f"M3FD/Ir/{i:05d}.png")
        corners = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1 + 1}</xmax><ymax>{y1 + 1}</ymax>"
        size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
        object_ = f"<object><name>Car</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>"
        path = root / f"M3FD/Annotation/{i:05d}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation>{size}{object_}</annotation>")
    return root


class SmallSegmenter(nn.Module):
    """Three convolutions in place of SegFormer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU())
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images))

    def load_pretrained(self) -> None:
        """Nothing to load."""


class SmallSaliency(nn.Module):
    """The same in place of CTDNet, with its six outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU())
        self.stages = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2), nn.ReLU())
        self.head = nn.Conv2d(8, 6, 1)

    def forward(self, images: Tensor) -> SaliencyLogits:
        first, edge, *inner = self.head(self.stages(self.stem(images))).split(1, dim=1)
        return SaliencyLogits(first, edge, tuple(inner))

    def load_pretrained(self) -> None:
        """Nothing to load."""


@pytest.fixture
def quick_trainer(tmp_path: Path) -> Callable[..., Any]:
    """`quick_trainer(max_epochs)`: a Lightning trainer on the CPU that says little."""
    from lightning import Trainer

    def build(max_epochs: int, **options: Any) -> Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        options = {"enable_checkpointing": False, "default_root_dir": tmp_path, "num_sanity_val_steps": 0, **options}
        torch.manual_seed(0)
        return Trainer(accelerator="cpu", devices=1, max_epochs=max_epochs, **quiet, **options)

    return build
