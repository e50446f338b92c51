"""Attention bias from the offset between two pixels of a window, by a small network (Swin V2's log-spaced coordinates)."""

import torch
from torch import Tensor, nn


class LogPositionBias(nn.Module):
    """Maps `sign(d) * log(1 + |d|)` of the vertical and horizontal offset to one number per head.

    Args:
        window: side of the window in pixels.
        heads: number of attention heads.
        hidden: width of the network.
    """

    def __init__(self, window: int, heads: int, hidden: int = 256) -> None:
        super().__init__()
        self.window = window
        self.mlp = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, heads))
        axis = torch.arange(window)
        place = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
        offset = (place[:, None] - place[None]).float()
        self.register_buffer("offsets", offset.sign() * offset.abs().log1p(), persistent=False)

    def forward(self) -> Tensor:
        """`(heads, window^2, window^2)`, to be added to the logits."""
        return self.mlp(self.offsets).permute(2, 0, 1)
