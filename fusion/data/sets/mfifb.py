"""MFIFB."""

from fusion.data.sets.scenes import SceneDataset


class MFIFB(SceneDataset):
    """Multi-focus fusion benchmark (Zhang, 2020): 105 pairs of 178x134 to 1024x768.

    SCENE_A counts as the near focus and becomes `b`, SCENE_B as the far focus and becomes `a`. That holds for its Lytro
    and MFFW pairs, which MFIF has too: leave them out (`exclude: [lytro_*, mffw_*]`) to train here and test there. Of
    the others some have it the other way round (books), and those made by blurring parts of a photograph (aymaz, tsai)
    have no depth order at all.
    """

    task = "mff"
    counts = (105,)
    page = "MFIFB repository of xingchenzhang"
    layout = """\
MFIFB/
  input/lytro_01/lytro_01_A.jpg (near focus)   input/lytro_01/lytro_01_B.jpg (far focus)"""
