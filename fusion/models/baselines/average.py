"""The plain average of the sources."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput
from fusion.models.tiled import Reach


class Average(FusionModel):
    """`weight * a + (1 - weight) * b`, pixel by pixel.

    Args:
        weight: share of source `a`, in [0, 1].
        **base: see `FusionModel`.
    """

    fuses_all = True
    bytes_per_pixel = 20
    reach = Reach()

    def __init__(self, weight: float = 0.5, **base: Any) -> None:
        super().__init__(**base)
        self.weight = weight

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", **controls: Any) -> FusionOutput:
        return FusionOutput(fused=b.lerp(a, self.weight))

    def fuse_all(self, images: Sequence[Tensor], task: str = "vif", **controls: Any) -> FusionOutput:
        """The mean of all."""
        return FusionOutput(fused=torch.stack(list(images)).mean(0))
