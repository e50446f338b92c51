"""The network of SeAFusion (Tang et al., Information Fusion 2022): gradient residual dense blocks for both sources."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
_SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


class SeAFusionNetwork(nn.Module):
    """Luma of the visible image and the infrared image to the fused luma (Sec. 3.3, Fig. 3); 166,657 weights in use.

    Module names follow the released weights (MIT licence). Their decoder holds batch norms that the released network
    never runs; they are kept so that the file loads strictly, and are not run here either.
    """

    margin = 9
    bytes_per_pixel = 1400

    def __init__(self) -> None:
        super().__init__()
        self.vis_conv, self.vis_rgbd1, self.vis_rgbd2 = _Conv(1, 16), _GradientBlock(16, 32), _GradientBlock(32, 48)
        self.inf_conv, self.inf_rgbd1, self.inf_rgbd2 = _Conv(1, 16), _GradientBlock(16, 32), _GradientBlock(32, 48)
        self.decode4, self.decode3, self.decode2, self.decode1 = (
            _IdleNorm(i, o) for i, o in ((96, 64), (64, 32), (32, 16), (16, 1))
        )

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Two `(B, 1, H, W)` in [0, 1] to `(B, 1, H, W)` in (0, 1), any size."""
        first = self.vis_rgbd2(self.vis_rgbd1(self.vis_conv(visible)))
        second = self.inf_rgbd2(self.inf_rgbd1(self.inf_conv(infrared)))
        features = torch.cat([first, second], dim=1)
        for layer in (self.decode4, self.decode3, self.decode2):
            features = F.leaky_relu(layer.conv(features), SLOPE)
        return (self.decode1.conv(features).tanh() + 1) / 2


class _GradientBlock(nn.Module):
    """Dense convolutions, and beside them the size of the features' gradient (the GRDB of Fig. 3)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.dense = nn.ModuleDict({"conv1": _Conv(channels, channels), "conv2": _Conv(2 * channels, channels)})
        self.convdown = _Pointwise(3 * channels, out_channels)
        self.sobelconv = _Sobel(channels)
        self.convup = _Pointwise(channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        dense = features
        for layer in self.dense.values():
            dense = torch.cat([dense, layer(dense)], dim=1)
        return F.leaky_relu(self.convdown.conv(dense) + self.convup.conv(self.sobelconv(features)), 0.1)


class _Sobel(nn.Module):
    """Sum of the absolute Sobel gradients of each channel; the released training moved these kernels, so they load."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = torch.tensor(_SOBEL)
        self.convx, self.convy = (
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False) for _ in "xy"
        )
        with torch.no_grad():
            self.convx.weight.copy_(kernel.expand_as(self.convx.weight))
            self.convy.weight.copy_(kernel.T.expand_as(self.convy.weight))

    def forward(self, features: Tensor) -> Tensor:
        return self.convx(features).abs() + self.convy(features).abs()


class _Conv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(features), SLOPE)


class _Pointwise(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)


class _IdleNorm(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(out_channels)
