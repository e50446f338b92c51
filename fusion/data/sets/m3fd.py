"""M3FD."""

from pathlib import Path

from fusion.data.files.pairs import Pair, find_folder, pair_folders
from fusion.data.labelled import BoxDataset


class M3FD(BoxDataset):
    """Visible-infrared driving scenes with boxes of six classes (Liu et al., CVPR 2022; TarDAL).

    4,200 pairs of 1024x768 PNG, a few of other sizes; `a` is the visible, `b` the infrared image. The set comes without
    a split and no paper publishes one: draw it with `skip`, `limit` and `shuffle_seed`, or name a text file in
    `include`. The separate package M3FD_Fusion (300 pairs, no boxes) has the same layout.
    """

    task = "vif"
    counts = (4200,)
    class_names = ("People", "Car", "Bus", "Lamp", "Motorcycle", "Truck")  # TarDAL's order
    page = "TarDAL repository of JinyuanLiu-CV, package M3FD_Detection"
    layout = """\
M3FD/
  Vis/00000.png   Ir/00000.png   Annotation/00000.xml   (boxes optional, VOC)"""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `Vis` and `Ir`."""
        return pair_folders(
            find_folder(self.root, "Vis"),
            find_folder(self.root, "Ir"),
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )

    def label_folder(self) -> Path:
        """Beside the images."""
        return find_folder(self.root, "Annotation", "Annotations")
