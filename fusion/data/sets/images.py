"""A folder of single pictures: what synthetic pairs are made from, or both sources at once."""

from pathlib import Path
from typing import Any

from fusion.data.dataset import PairDataset, Sample
from fusion.data.files.image import read_image
from fusion.data.files.pairs import Pair, list_images, natural_key
from fusion.errors import ConfigError, DataError


class Images(PairDataset):
    """Every picture of a folder as both `a` and `b`: photographs for `SyntheticPairs`, or enhancement of one modality.

    Args:
        root: the folder.
        recursive: also take the pictures of its sub-folders; their names become `folder_name`.
        task: "vif", "mef" or "mff", for a model that is to enhance single pictures.
        dataset: name in tables and batches.
        options: those of `PairDataset`.
    """

    task = "vif"
    layout = "FOLDER/any.png  FOLDER/other.jpg"

    def __init__(
        self, root: str | Path, recursive: bool = False, task: str = "vif", dataset: str = "Images", **options: Any
    ) -> None:
        self._name = dataset
        if root is None:
            raise ConfigError("root: not given; expected a folder of pictures.")
        super().__init__(root, **options)
        self.recursive, self.task = recursive, task

    @property
    def name(self) -> str:
        """The given name."""
        return self._name

    def find_pairs(self) -> list[Pair]:
        """One pair of equal files per picture."""
        if not self.recursive:
            return [Pair(path.stem, path, path) for path in list_images(self.root, self.layout)]
        found = []
        folders = [self.root, *(path for path in self.root.rglob("*") if path.is_dir())] if self.root.is_dir() else []
        for folder in folders:
            try:
                files = list_images(folder)
            except DataError:
                continue  # folders of folders
            prefix = folder.relative_to(self.root).parts
            found += [Pair("_".join((*prefix, path.stem)), path, path) for path in files]
        if not found:
            list_images(self.root, self.layout)  # says what is wrong
        return sorted(found, key=lambda pair: natural_key(pair.name))

    def _read(self, pair: Pair) -> Sample:
        image = read_image(pair.a)
        return {
            "a": image.pixels,
            "b": image.pixels,
            "task": self.task,
            "name": pair.name,
            "dataset": self.name,
            "a_is_gray": image.is_gray,
            "b_is_gray": image.is_gray,
        }
