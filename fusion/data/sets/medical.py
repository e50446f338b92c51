"""Medical images of the Harvard atlas."""

from pathlib import Path
from typing import Any

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair, find_folder, pair_folders
from fusion.errors import ConfigError


class HarvardMedical(PairDataset):
    """Slices of the Whole Brain Atlas (AANLIB), 256x256: PET, SPECT or CT with MRI.

    `a` is the MRI slice, gray, `b` the PET or SPECT slice in color, or the CT slice in gray. The atlas is a web site;
    papers sort its slices into two folders of equal names, differently many of them.

    Args:
        root: folder of the data set.
        split: which modalities: "PET-MRI", "SPECT-MRI" or "CT-MRI".
        part: sub-folder "train" or "test" where the slices are divided; None where they are not.
        task: what the model takes them for.
        options: those of `PairDataset`.

    Raises:
        ConfigError: an unknown part.
    """

    task = "vif"
    splits = ("PET-MRI", "SPECT-MRI", "CT-MRI")
    page = "The Whole Brain Atlas of the Harvard Medical School (AANLIB)"
    layout = """\
Harvard/
  PET-MRI/MRI/1.png     PET-MRI/PET/1.png
  SPECT-MRI/MRI/1.png   SPECT-MRI/SPECT/1.png
  CT-MRI/MRI/1.png      CT-MRI/CT/1.png      (part: train or test adds a folder, PET-MRI/test/MRI/1.png)"""

    def __init__(
        self, root: str | Path, split: str | None = None, part: str | None = None, task: str = "vif", **options: Any
    ) -> None:
        super().__init__(root, split, **options)
        if part not in (None, "train", "test"):
            raise ConfigError(f"{self.name}: part={part}, expected train, test or null.")
        self.part, self.task = part, task

    def find_pairs(self) -> list[Pair]:
        """Same file name in the folders of both modalities."""
        functional, structural = self.split.split("-")
        folder = find_folder(self.root, self.split, f"{structural}-{functional}")
        folder = folder / self.part if self.part else folder
        return pair_folders(
            find_folder(folder, structural),
            find_folder(folder, functional),
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )
