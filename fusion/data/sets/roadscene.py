"""RoadScene."""

from pathlib import Path

from fusion.data.files.pairs import Pair, pair_folders
from fusion.data.labelled import BoxDataset


class RoadScene(BoxDataset):
    """Visible-infrared road scenes cut from FLIR videos and aligned (Xu et al., AAAI 2020).

    221 pairs of varying size; `a` is the visible, `b` the infrared image. Published without labels: boxes are those of a
    detector (`python -m fusion.data action=label`) or your own.
    """

    task = "vif"
    counts = (221,)
    class_names = ("People", "Car")
    page = "RoadScene repository, hanna-xu/RoadScene"
    layout = """\
RoadScene/
  crop_LR_visible/FLIR_00006.jpg   cropinfrared/FLIR_00006.jpg
  Annotations/FLIR_00006.xml       (optional, VOC boxes; not published)"""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `crop_LR_visible` and `cropinfrared`."""
        return pair_folders(
            self.root / "crop_LR_visible",
            self.root / "cropinfrared",
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )

    def label_folder(self) -> Path:
        """Beside the images."""
        return self.root / "Annotations"
