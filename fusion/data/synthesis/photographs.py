"""Sample data without a download: fusion pairs made from the photographs that come with scikit-image."""

import json
import os
import shutil
from importlib import util
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fusion.data.files.image import read_image, write_image
from fusion.data.seeds import derive_seed
from fusion.data.synthesis import scenes
from fusion.errors import DataError
from fusion.files import temporary_beside

VERSION = 1
"""Raise when the pictures change: older sample folders are then made anew."""

MARKER = "samples.json"


class Photo(NamedTuple):
    """A photograph and the share of its width (from, to) that may be used."""

    file: str
    columns: tuple[float, float] = (0.0, 1.0)


TRAIN_PHOTOS = (
    Photo("motorcycle_left.png", (0.0, 0.58)),
    Photo("astronaut.png"),
    Photo("chelsea.png"),
    Photo("camera.png"),
    Photo("motorcycle_left.png", (0.0, 0.58)),
    Photo("coins.png"),
    Photo("astronaut.png"),
    Photo("brick.png"),
)
TEST_PHOTOS = (
    Photo("motorcycle_left.png", (0.6, 1.0)),
    Photo("coffee.png"),
    Photo("rocket.jpg"),
    Photo("coffee.png"),
    Photo("rocket.jpg"),
)
"""No test picture shows anything of a training picture: other photographs, or the other side of one."""

DISPARITY = "motorcycle_disp.npz"  # measured, Middlebury 2014; belongs to motorcycle_left.png


class SampleData:
    """Miniature LLVIP, SCIE and RealMFF to train on and LLVIP, MEFB and MFIF to test on, in their published layouts.

    Made from a few photographs: a night scene and a thermal look-alike, two exposures, two focal planes (by measured
    depth for one photograph, imagined depth for the others). They show that everything works and differ the way the
    real sets do; numbers measured on them say nothing about a method.

    Args:
        root: folder to make; it gets one folder per data set, about 10 MB in all.
        seed: of everything random.
        train_pairs: training pairs per task.
        test_pairs: test pairs per task.
        height: of the pictures in pixels.
        width: of the pictures in pixels.
    """

    def __init__(
        self,
        root: str | Path,
        seed: int = 0,
        train_pairs: int = 24,
        test_pairs: int = 5,
        height: int = 224,
        width: int = 288,
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.train_pairs, self.test_pairs = train_pairs, test_pairs
        self.size = (height, width)

    def prepare(self) -> Path:
        """Make the folder unless it is there already; a killed run leaves nothing that looks finished.

        Returns:
            The folder.

        Raises:
            DataError: scikit-image is not installed, or the folder holds something else.
        """
        if self._is_ready():
            return self.root
        if self.root.exists() and any(self.root.iterdir()) and not (self.root / MARKER).is_file():
            raise DataError(f"{self.root}: holds other files; name an empty or new folder for the sample data.")
        partial = temporary_beside(self.root)
        try:
            self._write(partial)
            (partial / MARKER).write_text(json.dumps(self._recipe()), encoding="utf-8")
            if self.root.exists():
                shutil.rmtree(self.root)
            os.replace(partial, self.root)
        except OSError as error:
            if not self._is_ready():  # another process may have been quicker
                raise DataError(f"{self.root}: cannot be written ({error.strerror or error}).") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return self.root

    def _recipe(self) -> dict[str, object]:
        pairs = [self.train_pairs, self.test_pairs]
        return {"version": VERSION, "seed": self.seed, "pairs": pairs, "size": list(self.size)}

    def _is_ready(self) -> bool:
        marker = self.root / MARKER
        try:
            return marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == self._recipe()
        except ValueError:
            return False

    def _write(self, root: Path) -> None:
        for split, count in (("train", self.train_pairs), ("test", self.test_pairs)):
            for i in range(count):
                self._write_vif(root, split, i)
                self._write_mef(root, split, i)
                self._write_mff(root, split, i)

    def _write_vif(self, root: Path, split: str, i: int) -> None:
        generator = self._generator("vif", split, i)
        image, _ = self._scene(split, i, generator)
        name = f"{(1 if split == 'train' else 19) * 10000 + i + 1:06d}.jpg"
        write_image(root / "LLVIP/visible" / split / name, scenes.night(image, generator))
        write_image(root / "LLVIP/infrared" / split / name, scenes.thermal(image, generator).expand(3, -1, -1))

    def _write_mef(self, root: Path, split: str, i: int) -> None:
        generator = self._generator("mef", split, i)
        over, under = scenes.expose(self._scene(split, i, generator)[0], generator)
        if split == "train":
            paths = root / f"SCIE/oe/p1_{i + 1:03d}.jpg", root / f"SCIE/ue/p1_{i + 1:03d}.jpg"
        else:
            stem = root / f"MEFB/input/sample_{i + 1:02d}/sample_{i + 1:02d}"
            paths = stem.with_name(f"{stem.name}_B.jpg"), stem.with_name(f"{stem.name}_A.jpg")
        write_image(paths[0], over)
        write_image(paths[1], under)

    def _write_mff(self, root: Path, split: str, i: int) -> None:
        generator = self._generator("mff", split, i)
        image, nearness = self._scene(split, i, generator)
        if nearness is None:
            nearness = scenes.procedural_depth(*self.size, generator)
        far, near = scenes.defocus(image, nearness)
        if split == "train":
            write_image(root / f"RealMFF/imageA/{i + 1}_A.png", near)
            write_image(root / f"RealMFF/imageB/{i + 1}_B.png", far)
            write_image(root / f"RealMFF/Fusion/{i + 1}_F.png", image)
        else:
            write_image(root / f"MFIF/input/sample_{i + 1:02d}/sample_{i + 1:02d}_A.jpg", near)
            write_image(root / f"MFIF/input/sample_{i + 1:02d}/sample_{i + 1:02d}_B.jpg", far)

    def _generator(self, task: str, split: str, i: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(VERSION, self.seed, task, split, i))

    def _scene(self, split: str, i: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """A part of a photograph, `(3, H, W)` in [0, 1], and its nearness `(H, W)` where that was measured."""
        photos = TRAIN_PHOTOS if split == "train" else TEST_PHOTOS
        photo = photos[i % len(photos)]
        path = photo_path(photo.file)
        image = read_image(path).pixels.float() / 255
        layers = [image]
        if photo.file == "motorcycle_left.png":
            layers.append(_read_nearness(photo_path(DISPARITY)))
        first, last = (round(share * image.shape[-1]) for share in photo.columns)
        scene = torch.cat(layers)[:, :, first:last]
        zoom, y, x, flip = torch.rand(4, generator=generator).tolist()
        fit = min(scene.shape[1] / self.size[0], scene.shape[2] / self.size[1]) * (0.72 + 0.28 * zoom)
        height, width = int(self.size[0] * fit), int(self.size[1] * fit)
        box = (int(y * (scene.shape[1] - height)), int(x * (scene.shape[2] - width)), height, width)
        cut = scenes.crop_and_resize(scene, box, self.size)
        if flip > 0.5:
            cut = cut.flip(-1)
        return cut[:3], (_spread(cut[3]) if len(cut) == 4 else None)


def photo_path(name: str) -> Path:
    """File of a photograph in the installed scikit-image; nothing is downloaded.

    Raises:
        DataError: scikit-image is not installed or comes without it.
    """
    spec = util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("The sample photographs come with scikit-image: pip install 'scikit-image>=0.24'.")
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    if not path.is_file():
        raise DataError(f"{path}: missing from this scikit-image; install scikit-image>=0.24 from its wheel.")
    return path


def _read_nearness(path: Path) -> Tensor:
    """Disparity `(1, H, W)`; where it was not measured, that of the farther neighbour in the row."""
    with np.load(path) as file:
        disparity = file["arr_0"].astype(np.float32)
    sides = []
    for flipped in (False, True):
        rows = disparity[:, ::-1] if flipped else disparity
        known = np.isfinite(rows)
        last = np.maximum.accumulate(np.where(known, np.arange(rows.shape[1]), -1), axis=1)
        filled = np.where(last >= 0, np.take_along_axis(rows, last.clip(0), axis=1), np.inf)
        sides.append(filled[:, ::-1] if flipped else filled)
    nearness = np.minimum(*sides)
    nearness[~np.isfinite(nearness)] = float(disparity[np.isfinite(disparity)].min())
    return torch.from_numpy(nearness / 60.0)[None]  # the largest disparity is 59.9 pixels


def _spread(nearness: Tensor) -> Tensor:
    """Stretch nearness so that a third of the picture or so is in the near layer, whatever the part shown."""
    low, middle, high = torch.quantile(nearness.flatten(), torch.tensor([0.02, 0.6, 0.98]))
    below = 0.5 * (nearness - low) / (middle - low).clamp(min=1e-3)
    above = 0.5 + 0.5 * (nearness - middle) / (high - middle).clamp(min=1e-3)
    return torch.where(nearness < middle, below, above).clamp(0, 1)
