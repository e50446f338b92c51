"""Real-MFF."""

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair, by_prefix, pair_folders


class RealMFF(PairDataset):
    """Real multi-focus pairs with ground truth made from light fields (Zhang et al., 2020): 710 pairs of 625x433.

    `a` is the far focus (`imageB`), `b` the near focus (`imageA`); `reference` comes from `Fusion` where it exists.
    """

    task = "mff"
    counts = (710,)
    page = "Real-MFF repository of Zancelot"
    layout = """\
RealMFF/
  imageA/1_A.png (near focus)   imageB/1_B.png (far focus)   Fusion/1_F.png (optional)"""

    def find_pairs(self) -> list[Pair]:
        """Same text before the first underscore."""
        return pair_folders(
            self.root / "imageB",
            self.root / "imageA",
            self.root / "Fusion",
            key=by_prefix,
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )
