"""RoadScene."""

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair, pair_folders


class RoadScene(PairDataset):
    """Visible-infrared road scenes cut from FLIR videos and aligned (Xu et al., AAAI 2020).

    221 pairs of varying size; `a` is the visible, `b` the infrared image.
    """

    task = "vif"
    counts = (221,)
    page = "RoadScene repository, hanna-xu/RoadScene"
    layout = """\
RoadScene/
  crop_LR_visible/FLIR_00006.jpg   cropinfrared/FLIR_00006.jpg"""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `crop_LR_visible` and `cropinfrared`."""
        return pair_folders(
            self.root / "crop_LR_visible",
            self.root / "cropinfrared",
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )
