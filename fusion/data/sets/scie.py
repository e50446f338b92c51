"""SCIE, the prepared form of the SICE sequences."""

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair, pair_folders


class SCIE(PairDataset):
    """Multi-exposure pairs, one from each of the 589 SICE sequences (Cai et al., TIP 2018).

    Of every sequence the brightest image goes to `oe`, the darkest to `ue`, under one name. Rank by mean brightness,
    not by file number: the numbering is not uniform. `a` is the over-exposed, `b` the under-exposed image; `reference` is
    SICE's own where it was copied (`SICEPairs`), for full-reference scores.
    """

    task = "mef"
    counts = (589,)
    page = "SICE repository of csjcai"
    layout = """\
SCIE/
  oe/p1_001.jpg   ue/p1_001.jpg     (brightest and darkest image of each sequence, same name)
  reference/p1_001.jpg              (optional)"""

    def find_pairs(self) -> list[Pair]:
        """Same file name in `oe` and `ue`."""
        return pair_folders(
            self.root / "oe",
            self.root / "ue",
            self.root / "reference",
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )
