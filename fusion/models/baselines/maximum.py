"""The brighter source, pixel by pixel."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput


class Maximum(FusionModel):
    """`max(a, b)` per pixel and channel."""

    fuses_all = True

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", **controls: Any) -> FusionOutput:
        return FusionOutput(fused=torch.maximum(a, b))

    def fuse_all(self, images: Sequence[Tensor], task: str = "vif", **controls: Any) -> FusionOutput:
        """The brightest of all."""
        return FusionOutput(fused=torch.stack(list(images)).amax(0))
