"""TNO."""

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair, pair_folders


class TNO(PairDataset):
    """Visible-infrared military scenes (Toet, 2014), as papers curate them: 21, 25 or 42 pairs in `vi` and `ir`.

    The published archive nests one folder per camera and scene, with many duplicates; sort the chosen pairs into two
    folders. `a` is the visible, `b` the infrared image; both are gray, often stored with three equal channels.
    """

    task = "vif"
    page = "TNO Image Fusion Dataset on figshare"
    layout = """\
TNO/
  vi/01.png   ir/01.png"""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `vi` and `ir`."""
        return pair_folders(self.root / "vi", self.root / "ir", allow_unpaired=self.allow_unpaired, layout=self.layout)
