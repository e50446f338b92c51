"""The cross-fusion gate: share of the auxiliary branch in the main one (supplement Sec. 5, Fig. 4).

A gate is built as `gate(dim)` and maps auxiliary features `(B, dim, H, W)` to what is added to the main ones.
"""

import torch
from torch import Tensor, nn


class ScalarGate(nn.Module):
    """One learned factor, as in the released model.

    Args:
        dim: channels; has no influence.
        init: initial value; None draws it from (0, 1), as the released code does.
    """

    def __init__(self, dim: int, init: float | None = None) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.rand(1) if init is None else torch.full((1,), float(init)))

    def forward(self, features: Tensor) -> Tensor:
        """Scale the features."""
        return features * self.factor().to(features).view(-1, 1, 1)

    def factor(self) -> Tensor:
        """The factor, `(1,)` or one per channel `(dim,)`."""
        return self.value


class ChannelGate(ScalarGate):
    """One learned factor per channel.

    Args:
        dim: channels.
        init: initial value of all; None draws one value from (0, 1).
    """

    def __init__(self, dim: int, init: float | None = None) -> None:
        super().__init__(dim, init)
        self.value = nn.Parameter(self.value.detach().repeat(dim))
