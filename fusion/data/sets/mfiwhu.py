"""MFI-WHU."""

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair, pair_folders


class MFIWHU(PairDataset):
    """Multi-focus pairs made by blurring photographs along a mask (Zhang et al., Information Fusion 2021): 120 pairs.

    `a` is the far focus (`source_2`), `b` the near focus (`source_1`); `reference` comes from `full_clear` where it
    exists.
    """

    task = "mff"
    counts = (120,)
    page = "MFI-WHU repository of HaoZhang1018"
    layout = """\
MFI-WHU/
  source_1/1.jpg (near focus)   source_2/1.jpg (far focus)   full_clear/1.jpg (optional)"""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `source_1` and `source_2`."""
        return pair_folders(
            self.root / "source_2",
            self.root / "source_1",
            self.root / "full_clear",
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )
