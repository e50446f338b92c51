"""Convolutional residual blocks with dense connections and dilated convolutions."""

from typing import Any

import torch
from torch import Tensor, nn

SLOPE = 0.2
"""Of the leaky ReLUs (released T-OAR code)."""


def conv_bn(in_channels: int, out_channels: int, **conv: Any) -> nn.Sequential:
    """3x3 convolution, batch norm, leaky ReLU; reflected by one pixel unless `conv` says otherwise."""
    options: dict[str, Any] = {"padding": 1, "padding_mode": "reflect"} | conv
    return ConvNorm(
        nn.Conv2d(in_channels, out_channels, 3, **options), nn.BatchNorm2d(out_channels), nn.LeakyReLU(SLOPE)
    )


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, activation; in evaluation the norm is a part of the convolution's weights: one pass less."""

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, D, H, W)`."""
        layers: Any = self  # its items are typed as plain modules
        conv, norm, activation = layers
        if norm.training:
            return super().forward(features)
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias + (conv.bias - norm.running_mean) * scale
        return activation(conv._conv_forward(features, conv.weight * scale.view(-1, 1, 1, 1), bias))


class ConvResidualBlock(nn.Module):
    """Two dilated 3x3 convolutions that see all before them, a 1x1 convolution back, and the input on top.

    Args:
        channels: in and out.
        growth: of each dilated convolution.
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        dilated: dict[str, Any] = {"padding": 2, "dilation": 2, "padding_mode": "zeros"}
        self.first = conv_bn(channels, growth, **dilated)
        self.second = conv_bn(channels + growth, growth, **dilated)
        self.back = nn.Sequential(nn.Conv2d(channels + 2 * growth, channels, 1), nn.LeakyReLU(SLOPE))

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same."""
        seen = torch.cat([features, self.first(features)], dim=1)
        seen = torch.cat([seen, self.second(seen)], dim=1)
        return features + self.back(seen)
