"""The brighter source, pixel by pixel."""

from typing import Any

import torch
from torch import Tensor

from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput
from fusion.models.tiled import Reach


class Maximum(FusionModel):
    """`max(a, b)` per pixel and channel."""

    bytes_per_pixel = 20
    reach = Reach()

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", **controls: Any) -> FusionOutput:
        return FusionOutput(fused=torch.maximum(a, b))
