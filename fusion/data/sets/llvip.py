"""LLVIP."""

from pathlib import Path

from fusion.data.files.pairs import Pair, pair_folders
from fusion.data.labelled import BoxDataset


class LLVIP(BoxDataset):
    """Visible-infrared street scenes at night (Jia et al., ICCV Workshops 2021).

    12,025 training and 3,463 test pairs of 1280x1024 JPEG, aligned. `a` is the visible, `b` the infrared image; boxes
    of pedestrians. For research only, not for commercial use. The paper of TC-MoA tests on 70 images it does not name;
    `limit=70` with a `shuffle_seed` draws as many.
    """

    task = "vif"
    splits = ("train", "test")
    counts = (12025, 3463)
    class_names = ("person",)
    page = "LLVIP project page of bupt-ai-cz"
    layout = """\
LLVIP/
  visible/train/010001.jpg   infrared/train/010001.jpg
  visible/test/190001.jpg    infrared/test/190001.jpg
  Annotations/010001.xml     (optional, VOC boxes)"""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `visible/<split>` and `infrared/<split>`."""
        return pair_folders(
            self.root / "visible" / self.split,
            self.root / "infrared" / self.split,
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )

    def label_folder(self) -> Path:
        """One folder for both splits."""
        return self.root / "Annotations"
