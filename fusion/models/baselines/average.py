"""The plain average of the sources."""

from typing import Any

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

    bytes_per_pixel = 20
    reach = Reach()

    def __init__(self, weight: float = 0.5, **base: Any) -> None:
        super().__init__(**base)
        self.weight = weight

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", **controls: Any) -> FusionOutput:
        return FusionOutput(fused=b.lerp(a, self.weight))
