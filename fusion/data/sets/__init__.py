"""One file per data set."""

from fusion.data.sets.folders import Folders
from fusion.data.sets.llvip import LLVIP
from fusion.data.sets.mefb import MEFB
from fusion.data.sets.mfif import MFIF
from fusion.data.sets.mfifb import MFIFB
from fusion.data.sets.mfiwhu import MFIWHU
from fusion.data.sets.realmff import RealMFF
from fusion.data.sets.roadscene import RoadScene
from fusion.data.sets.scenes import SceneDataset
from fusion.data.sets.scie import SCIE
from fusion.data.sets.tno import TNO
from fusion.data.sets.vifb import VIFB

__all__ = [
    "LLVIP",
    "MEFB",
    "MFIF",
    "MFIFB",
    "MFIWHU",
    "SCIE",
    "TNO",
    "VIFB",
    "Folders",
    "RealMFF",
    "RoadScene",
    "SceneDataset",
]
