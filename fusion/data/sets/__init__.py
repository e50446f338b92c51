"""One file per data set."""

from fusion.data.sets.flir import FLIR
from fusion.data.sets.fmb import FMB
from fusion.data.sets.folders import Folders
from fusion.data.sets.images import Images
from fusion.data.sets.llvip import LLVIP
from fusion.data.sets.m3fd import M3FD
from fusion.data.sets.medical import HarvardMedical
from fusion.data.sets.mefb import MEFB
from fusion.data.sets.mfif import MFIF
from fusion.data.sets.mfifb import MFIFB
from fusion.data.sets.mfiwhu import MFIWHU
from fusion.data.sets.msrs import MSRS
from fusion.data.sets.pansharpening import PanSharpening
from fusion.data.sets.quadruples import FocusQuadruples
from fusion.data.sets.realmff import RealMFF
from fusion.data.sets.rgbnir import RGBNIR
from fusion.data.sets.roadscene import RoadScene
from fusion.data.sets.scenes import SceneDataset
from fusion.data.sets.scie import SCIE
from fusion.data.sets.tno import TNO
from fusion.data.sets.vifb import VIFB
from fusion.data.sets.vt5000 import VT5000
from fusion.data.synthesis.sets import SyntheticPairs, WithAuxiliary

__all__ = [
    "FLIR",
    "FMB",
    "LLVIP",
    "M3FD",
    "MEFB",
    "MFIF",
    "MFIFB",
    "MFIWHU",
    "MSRS",
    "RGBNIR",
    "SCIE",
    "TNO",
    "VIFB",
    "VT5000",
    "FocusQuadruples",
    "Folders",
    "HarvardMedical",
    "Images",
    "PanSharpening",
    "RealMFF",
    "RoadScene",
    "SceneDataset",
    "SyntheticPairs",
    "WithAuxiliary",
]
