"""VT5000."""

from pathlib import Path

from fusion.data.files.pairs import Pair, find_folder, pair_folders
from fusion.data.labelled import SaliencyDataset


class VT5000(SaliencyDataset):
    """Visible-thermal pairs with saliency maps (Tu et al., TMM 2023): 2,500 for training, 2,500 for testing.

    `a` is the visible, `b` the thermal image; `mask` is 1 on the salient object.
    """

    task = "vif"
    splits = ("train", "test")
    counts = (2500, 2500)
    page = "VT5000 page of Tu et al."
    layout = """\
VT5000/
  Train/RGB/1.jpg   Train/T/1.jpg   Train/GT/1.png   (saliency maps, optional)
  Test/RGB/...      Test/T/...      Test/GT/..."""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `RGB` and `T` of the split."""
        folder = find_folder(self.root, self.split.capitalize())
        return pair_folders(
            find_folder(folder, "RGB"), find_folder(folder, "T"), allow_unpaired=self.allow_unpaired, layout=self.layout
        )

    def label_folder(self) -> Path:
        """In the split's folder."""
        return find_folder(find_folder(self.root, self.split.capitalize()), "GT")
