"""Synthetic pairs written to disk, in layouts that data sets here and the official code read."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fusion.data.dataset import PairDataset
from fusion.data.files.image import WRITE_FORMATS, write_image
from fusion.data.sample import Sample, Transform
from fusion.data.seeds import derive_seed
from fusion.data.synthesis.depth import DepthSource
from fusion.data.synthesis.sets import SyntheticPairs
from fusion.errors import ConfigError, DataError
from fusion.files import atomic, csv_text, write_text

LAYOUTS = {
    "mff": {"b": "source_1", "a": "source_2", "reference": "full_clear"},  # as MFI-WHU, near and far
    "mef": {"a": "oe", "b": "ue", "reference": "reference"},  # as SCIE
}
"""Folders of the images by task."""

QUADRUPLES = {"a": "visible", "b": "infrared", "auxiliary_a": "visible_focus_far", "auxiliary_b": "visible_focus_near"}
"""Folders of GIFNet's official training data, for samples whose main pair is visible-infrared."""

RECORD = "pairs.csv"


def export(
    dataset: SyntheticPairs,
    out: str | Path,
    count: int | None = None,
    crop: Transform | None = None,
    ending: str = ".png",
    threads: int = 4,
) -> int:
    """Make pairs and write them; what is there already is left alone, so that a stopped run goes on.

    Focus pairs go to `source_1`, `source_2` and `full_clear` (read them as `MFIWHU`), exposures to `oe`, `ue` and
    `reference` (as `SCIE`), and focus pairs with their visible-infrared pair to the four folders of GIFNet's official
    code (as `FocusQuadruples`). `pairs.csv` says which image and seed each one was made from.

    Args:
        dataset: what makes them.
        out: folder to fill.
        count: number of crops, from the images in turn; None: each whole image once.
        crop: how crops are cut.
        ending: file ending; ".png" keeps every pixel.
        threads: that work.

    Returns:
        Number of pairs.

    Raises:
        ConfigError: an unknown ending, `count` below 1, or crops asked for without saying how to cut them.
        DataError: an image cannot be read or a file not be written.
    """
    if ending not in WRITE_FORMATS:
        raise ConfigError(f"ending={ending}: cannot be written; use one of {', '.join(WRITE_FORMATS)}.")
    if count is not None and count < 1:
        raise ConfigError(f"count={count}: expected at least 1, or null for whole images.")
    if count is not None and crop is None:
        raise ConfigError("count: number of crops, but data.crop_size says not how large they are.")
    folders = _folders(dataset, Path(out))
    jobs = list(_jobs(dataset, count))

    def write(job: tuple[str, int, int]) -> None:
        name, index, seed = job
        paths = {key: folder / f"{name}{ending}" for key, folder in folders.items()}
        if all(path.is_file() for path in paths.values()):
            return
        sample: Sample = dataset.load(index) if count is None else dataset.draw(index, seed, crop)
        for key, path in paths.items():
            write_image(path, sample[key])

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(write, jobs))
    rows = [[name, dataset.pairs[index].name, seed] for name, index, seed in jobs]
    _write_record(Path(out) / RECORD, rows)
    return len(jobs)


class DepthMaps:
    """Writes the nearness of every picture of a data set as 16-bit PNG files, for `DepthFolder`.

    Args:
        images: data set whose images `a` are measured.
        depth: what measures them, for example `DepthModel`.
        root: folder to fill; maps that are there are left alone.
    """

    def __init__(self, images: PairDataset, depth: DepthSource, root: str | Path | None) -> None:
        self.images, self.depth, self.root = images, depth, root

    def prepare(self) -> Path:
        """Make all maps that are missing.

        Returns:
            The folder.

        Raises:
            ConfigError: no folder was given.
            DataError: an image cannot be read or a map not be written.
        """
        if self.root is None:
            raise ConfigError("depth_dir: not given; expected a folder for the depth maps.")
        folder = Path(self.root)
        for index, pair in enumerate(self.images.pairs):
            path = folder / f"{pair.a.stem}.png"
            if path.is_file():
                continue
            generator = torch.Generator().manual_seed(derive_seed("depth", pair.name))
            nearness = self.depth(pair.a, self.images.load(index)["a"], generator)
            values = (nearness.clamp(0, 1) * 65535).round().numpy().astype(np.uint16)
            try:
                with atomic(path) as temporary:
                    Image.fromarray(values).save(temporary, format="PNG")
            except OSError as error:
                raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from error
        return folder


def _folders(dataset: SyntheticPairs, out: Path) -> dict[str, Path]:
    if dataset.auxiliary:
        if dataset.synthesis.task != "mff" or dataset.main != "source":
            raise ConfigError(
                f"{dataset.name}: only visible-infrared pairs with focus pairs beside them have a layout to write; "
                "set auxiliary=false to write the made pairs alone."
            )
        return {key: out / folder / "train" for key, folder in QUADRUPLES.items()}
    return {key: out / folder for key, folder in LAYOUTS[dataset.task].items()}


def _jobs(dataset: SyntheticPairs, count: int | None) -> Iterator[tuple[str, int, int]]:
    """Name, index and seed of everything to make."""
    if count is None:
        for index, pair in enumerate(dataset.pairs):
            yield pair.name, index, dataset.seed
        return
    digits = len(str(count))
    for number in range(count):
        yield f"{number + 1:0{digits}d}", number % len(dataset), derive_seed("export", dataset.seed, number)


def _write_record(path: Path, rows: list[list[object]]) -> None:
    try:
        write_text(path, csv_text([["name", "image", "seed"], *rows]))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from error
