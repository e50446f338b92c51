"""MSRS."""

from pathlib import Path

from fusion.data.files.pairs import Pair, find_folder, pair_folders
from fusion.data.labelled import MaskDataset


class MSRS(MaskDataset):
    """Visible-infrared road scenes by day (`D`) and night (`N`) with maps of 9 classes (Tang et al., 2022; PIAFusion).

    1,083 training and 361 test pairs of 640x480 PNG; `a` is the visible, `b` the infrared image.
    """

    task = "vif"
    splits = ("train", "test")
    counts = (1083, 361)
    class_names = ("unlabelled", "car", "person", "bike", "curve", "car stop", "guardrail", "cone", "bump")
    page = "MSRS repository of Linfeng-Tang"
    layout = """\
MSRS/
  train/vi/00001D.png   train/ir/00001D.png   train/Segmentation_labels/00001D.png   (class numbers, optional)
  test/vi/...           test/ir/...           test/Segmentation_labels/..."""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `vi` and `ir` of the split."""
        folder = find_folder(self.root, self.split)
        return pair_folders(
            find_folder(folder, "vi"), find_folder(folder, "ir"), allow_unpaired=self.allow_unpaired, layout=self.layout
        )

    def label_folder(self) -> Path:
        """In the split's folder, or in a folder of its own."""
        inside = find_folder(find_folder(self.root, self.split), "Segmentation_labels")
        return inside if inside.is_dir() else find_folder(self.root, "Segmentation_labels") / self.split
