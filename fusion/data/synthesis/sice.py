"""SICE sequences, as published, to the pairs that SCIE trains on."""

import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from fusion.data.files.pairs import list_images, natural_key
from fusion.errors import ConfigError, DataError
from fusion.files import atomic

_PARTS = {"p1": "Dataset_Part1", "p2": "Dataset_Part2"}
_LAYOUT = """\
SICE/
  Dataset_Part1/1/1.JPG, 2.JPG, ...   (one folder per sequence)
  Dataset_Part1/Label/1.JPG           (reference of each sequence, optional)
  Dataset_Part2/1/1.JPG, 2.JPG, ..."""


class SICEPairs:
    """Copies the brightest and the darkest image of every SICE sequence to `oe` and `ue`, its reference to `reference`.

    Brightness is measured, because the numbering of the files does not follow the exposure throughout. Names are
    `p1_001` for the first sequence of part 1. Pairs that are there are left alone, so that a stopped run goes on.

    Args:
        source: folder with Dataset_Part1 and Dataset_Part2 as published (one of them is enough).
        root: folder to fill, the root of `SCIE`.
        threads: that read images.
        over: place of the over-exposed image in the order of brightness; -1 is the brightest, -2 the next.
        under: place of the under-exposed image; 0 is the darkest. Sequences too short for both places are passed over.
        references: also copy the references that `Label` holds (Cai et al. chose the best of 13 fusions per sequence).

    Raises:
        ConfigError: both places are one.
    """

    def __init__(
        self,
        source: str | Path,
        root: str | Path,
        threads: int = 8,
        over: int = -1,
        under: int = 0,
        references: bool = True,
    ) -> None:
        if over == under:
            raise ConfigError(f"over={over} and under={under} are one image; expected two places in a sequence.")
        self.source, self.root = Path(source), Path(root)
        self.over, self.under = over, under
        self.threads, self.references = threads, references

    def prepare(self) -> Path:
        """Make all pairs that are missing.

        Returns:
            `root`.

        Raises:
            DataError: no sequences where they were expected, or a file that cannot be read or written.
        """
        sequences = list(self._sequences())
        if not sequences:
            if (self.root / "oe").is_dir():  # the originals may be gone by now
                return self.root
            raise DataError(f"{self.source}: no SICE sequences in it. Expected layout:\n{_LAYOUT}")
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(lambda item: self._pick(*item), sequences))
        return self.root

    def _sequences(self) -> Iterator[tuple[str, Path]]:
        for prefix, part in _PARTS.items():
            folder = self.source / part
            scenes = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
            for scene in sorted(scenes, key=lambda path: natural_key(path.name)):
                if scene.name.lower() != "label":
                    yield f"{prefix}_{scene.name.zfill(3)}", scene

    def _pick(self, name: str, scene: Path) -> None:
        self._copy_reference(name, scene)
        if all(any((self.root / side).glob(f"{name}.*")) for side in ("oe", "ue")):
            return
        images = sorted(list_images(scene, _LAYOUT), key=_brightness)
        if len(images) < 2:
            warnings.warn(f"{scene}: one image only, no pair to make of it.", stacklevel=2)
            return
        places = [rank % len(images) for rank in (self.over, self.under) if -len(images) <= rank < len(images)]
        if len(places) < 2 or places[0] <= places[1]:
            warnings.warn(
                f"{scene}: {len(images)} images, too few for over={self.over}, under={self.under}.", stacklevel=2
            )
            return
        for side, image in (("oe", images[places[0]]), ("ue", images[places[1]])):
            _copy(image, self.root / side / f"{name}{image.suffix.lower()}")

    def _copy_reference(self, name: str, scene: Path) -> None:
        """Sequence `3` has its reference in `Label/3.JPG` beside it."""
        if not self.references or any((self.root / "reference").glob(f"{name}.*")):
            return
        folder = _label_folder(scene.parent)
        found = [
            p
            for p in (list_images(folder) if folder.is_dir() else [])
            if natural_key(p.stem) == natural_key(scene.name)
        ]
        if found:
            _copy(found[0], self.root / "reference" / f"{name}{found[0].suffix.lower()}")


def _label_folder(part: Path) -> Path:
    return next((path for path in part.iterdir() if path.is_dir() and path.name.lower() == "label"), part / "Label")


def _brightness(path: Path) -> float:
    """Mean luma; JPEG files are decoded at an eighth of their size."""
    try:
        with Image.open(path) as image:
            image.draft("L", (image.width // 8, image.height // 8))
            return float(np.asarray(image.convert("L")).mean())
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: unreadable or truncated image ({error}); download or copy it again.") from error


def _copy(source: Path, target: Path) -> None:
    try:
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror or error}).") from error
