"""Dense encoder of one source (after DenseFuse, Li and Wu 2018)."""

import torch
from torch import Tensor, nn


class DenseEncoder(nn.Module):
    """A convolution with ReLU, then three densely connected ones.

    Args:
        channels: new channels per convolution.
        relu: ReLU after the dense convolutions too, as in DenseFuse; the released MoE-Fusion code has none there.
    """

    def __init__(self, channels: int = 16, relu: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.dense = nn.ModuleList(nn.Conv2d(channels * (i + 1), channels, 3, padding=1) for i in range(3))
        self.relu = relu
        self.out_channels, self.dense_channels = channels, 4 * channels

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode `(B, 1, H, W)` to the last convolution's `(B, C, H, W)` and all four together, `(B, 4C, H, W)`."""
        features = self.stem(image).relu()
        latest = features
        for conv in self.dense:
            latest = conv(features)
            if self.relu:
                latest = latest.relu()
            features = torch.cat([features, latest], dim=1)
        return latest, features
