"""AdaptFormer (Chen et al. 2022), the peer of TC-MoA's Table 5."""

import math
from typing import Any

from torch import Tensor, nn

from fusion.moe.adapters.base import Adapter


class AdaptMLP(nn.Module):
    """Bottleneck parallel to an MLP: down, ReLU, up (zero at the start), scaled.

    Args:
        dim: channels.
        bottleneck: inner width.
        scale: factor on the output.
    """

    def __init__(self, dim: int, bottleneck: int, scale: float) -> None:
        super().__init__()
        self.down, self.up, self.scale = nn.Linear(dim, bottleneck), nn.Linear(bottleneck, dim), scale
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(..., C)` to `(..., C)`."""
        return self.up(self.down(tokens).relu()) * self.scale


class AdaptFormer(Adapter):
    """A bottleneck beside every MLP; the streams are averaged after the encoder (the paper does not say how: our choice).

    Args:
        bottleneck: inner width (64 in AdaptFormer; TC-MoA does not say).
        scale: factor on the branch.
        parts: see `Adapter`.
    """

    def __init__(self, bottleneck: int = 64, scale: float = 0.1, **parts: Any) -> None:
        super().__init__(**parts)
        self.bottleneck, self.scale = bottleneck, scale

    def branch(self, dim: int) -> nn.Module:
        """An `AdaptMLP` of this width."""
        return AdaptMLP(dim, self.bottleneck, self.scale)
