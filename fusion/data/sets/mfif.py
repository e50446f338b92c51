"""MFIF."""

from fusion.data.sets.scenes import SceneDataset


class MFIF(SceneDataset):
    """Multi-focus test pairs of the survey by Zhang (TPAMI 2022): 63 pairs, Lytro 20, MFFW 13, MFI-WHU 30.

    Table 3 of the TC-MoA paper is computed on these. SCENE_A is focused near and becomes `b`, SCENE_B is focused far
    and becomes `a` (as the pictures of all three families show).
    """

    task = "mff"
    counts = (63,)
    page = "MFIF repository of xingchenzhang"
    layout = """\
MFIF/
  input/lytro_01/lytro_01_A.jpg (near focus)   input/lytro_01/lytro_01_B.jpg (far focus)"""
