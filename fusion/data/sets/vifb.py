"""VIFB."""

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair, pair_folders


class VIFB(PairDataset):
    """Visible-infrared fusion benchmark (Zhang et al., CVPR Workshops 2020): 21 pairs of 184x256 to 632x480.

    `a` is the visible, `b` the infrared image.
    """

    task = "vif"
    counts = (21,)
    page = "VIFB repository of xingchenzhang"
    layout = """\
VIFB/
  VI/carLight.jpg   IR/carLight.jpg"""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `VI` and `IR`."""
        return pair_folders(self.root / "VI", self.root / "IR", allow_unpaired=self.allow_unpaired, layout=self.layout)
