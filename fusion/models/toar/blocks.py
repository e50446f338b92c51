"""The fusion and reconstruction block (FRB): gradient-driven feature fusion, decoder, reconstruction (Sec. 3.2, Fig. 3)."""

from typing import Any

import torch
import torch.nn.functional as F
from kornia.filters import spatial_gradient
from torch import Tensor, nn

from fusion.models.gathered import Gathered
from fusion.models.toar.conv_residual import ConvResidualBlock, conv_bn


class GradientFusion(nn.Module):
    """FF: weighs the concatenated features by what their gradients show, Eqs. 1 and 2.

    Args:
        channels: width of the concatenated features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean_channels, self.max_channels = _mlp(channels), _mlp(channels)
        self.mean_places, self.max_places = _convs(channels), _convs(channels)

    def forward(self, infrared: Tensor, visible: Tensor, gathered: Gathered | None = None) -> Tensor:
        """Two `(B, C / 2, H, W)` to `(B, C, H, W)`; infrared comes first, as in the released code.

        Args:
            infrared, visible: features.
            gathered: means and maxima of the whole picture, where these are tiles.
        """
        features = torch.cat([infrared, visible], dim=1)
        gradient = spatial_gradient(features).abs().sum(2)
        mean, most = (gathered or Gathered())("gradient", gradient)
        by_channel = self.mean_channels(mean) + self.max_channels(most)
        by_place = self.mean_places(F.avg_pool2d(gradient, 3, 1, 1)) + self.max_places(F.max_pool2d(gradient, 3, 1, 1))
        return (by_channel[:, :, None, None] * by_place).sigmoid() * features


class Concatenation(nn.Module):
    """What stands for FF in Model I of Table 4.

    Args:
        channels: width of the concatenated features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, infrared: Tensor, visible: Tensor, gathered: Gathered | None = None) -> Tensor:
        """Two `(B, C / 2, H, W)` to `(B, C, H, W)`."""
        return torch.cat([infrared, visible], dim=1)


class Reconstruction(nn.Sequential):
    """FFD and RB: `(B, C, H, W)` to luma `(B, 1, H, W)` in [0, 1].

    Args:
        channels: width of the fused features.
        blocks: residual blocks of the decoder, M.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__(
            *(ConvResidualBlock(channels, channels) for _ in range(blocks)),
            conv_bn(channels, channels // 2),
            conv_bn(channels // 2, channels // 4),
            nn.Conv2d(channels // 4, 1, 3, padding=1, padding_mode="reflect"),
            nn.Tanh(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """The hyperbolic tangent moved from [-1, 1] to [0, 1]."""
        return (super().forward(features) + 1) / 2


def _mlp(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels))


def _convs(channels: int) -> nn.Sequential:
    reflected: dict[str, Any] = {"padding": 1, "padding_mode": "reflect"}
    return nn.Sequential(
        nn.Conv2d(channels, 2 * channels, 3, **reflected), nn.ReLU(), nn.Conv2d(2 * channels, channels, 3, **reflected)
    )
