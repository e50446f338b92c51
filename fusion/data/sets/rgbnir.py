"""RGB-NIR scenes."""

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair, natural_key, pair_endings
from fusion.errors import DataError


class RGBNIR(PairDataset):
    """Visible and near-infrared photographs of 9 kinds of scene (Brown and Susstrunk, CVPR 2011): 477 pairs.

    `a` is the visible, `b` the near-infrared image; names are `country_0000`.
    """

    task = "vif"
    counts = (477,)
    page = "RGB-NIR Scene Dataset of EPFL (nirscene1)"
    layout = """\
nirscene1/
  country/0000_rgb.tiff   country/0000_nir.tiff
  field/...               (one folder per kind of scene)"""

    def find_pairs(self) -> list[Pair]:
        """`NAME_rgb` with `NAME_nir` in every folder."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder. Expected layout:\n{self.layout}")
        folders = sorted((p for p in self.root.iterdir() if p.is_dir()), key=lambda path: natural_key(path.name))
        folders = [folder for folder in folders if not folder.name.startswith(".")]
        if not folders:
            raise DataError(f"{self.root}: no scene folders in this folder. Expected layout:\n{self.layout}")
        found = []
        for folder in folders:
            pairs = pair_endings(folder, "_rgb", "_nir", allow_unpaired=self.allow_unpaired, layout=self.layout)
            found += [Pair(f"{folder.name}_{pair.name}", pair.a, pair.b) for pair in pairs]
        return found
