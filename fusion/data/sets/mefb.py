"""MEFB."""

from fusion.data.sets.scenes import SceneDataset


class MEFB(SceneDataset):
    """Multi-exposure fusion benchmark (Zhang, Information Fusion 2021): 100 pairs of 226x341 to 1200x809.

    SCENE_B is the over-exposed image and becomes `a`, SCENE_A the under-exposed one and becomes `b` (in the scenes
    looked at, every B is the brighter one).
    """

    task = "mef"
    counts = (100,)
    page = "MEFB repository of xingchenzhang"
    layout = """\
MEFB/
  input/Arno/Arno_A.png (under-exposed)   input/Arno/Arno_B.png (over-exposed)"""
