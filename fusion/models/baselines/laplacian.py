"""The classic fusion of Laplacian pyramids."""

from typing import Any

import torch
from torch import Tensor

from fusion.layers.color import join_luma, merge_chroma, split_luma
from fusion.layers.pyramid import LaplacianPyramid
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput


class Laplacian(FusionModel):
    """Of every detail the stronger one, of the base the mean (Burt and Kolczynski 1993, with single coefficients).

    Fuses luma; chroma goes by its distance from neutral.

    Args:
        levels: bands of detail.
        **base: see `FusionModel`.
    """

    def __init__(self, levels: int = 5, **base: Any) -> None:
        super().__init__(**base)
        self.pyramid = LaplacianPyramid(levels)

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", **controls: Any) -> FusionOutput:
        (luma_a, chroma_a), (luma_b, chroma_b) = split_luma(a), split_luma(b)
        *pairs, base = zip(self.pyramid(luma_a), self.pyramid(luma_b), strict=True)
        details = [torch.where(x.abs() >= y.abs(), x, y) for x, y in pairs]
        luma = self.pyramid.inverse([*details, (base[0] + base[1]) / 2])
        return FusionOutput(fused=join_luma(luma, merge_chroma(chroma_a, chroma_b)))
