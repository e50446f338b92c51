"""Data sets with one folder per scene, as the benchmarks of X. Zhang publish them."""

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair, pair_scenes


class SceneDataset(PairDataset):
    """`input/SCENE/SCENE_A.ext` and `SCENE_B.ext`; the file with B becomes source `a`, that with A source `b`.

    Whatever else lies in a scene folder, such as the original exposures, is ignored.
    """

    def find_pairs(self) -> list[Pair]:
        """Both letters in every scene folder, case and ending aside."""
        return pair_scenes(self.root / "input", "B", "A", allow_unpaired=self.allow_unpaired, layout=self.layout)
