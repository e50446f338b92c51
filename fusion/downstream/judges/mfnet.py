"""MFNet (Ha et al., IROS 2017): segmentation of colour and thermal images, 9 classes of road scenes, 0.73 million weights.

Released weights for the classes of MFNet and MSRS belong to https://github.com/haqishen/MFNet-pytorch, which states no licence;
module names follow them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = ("unlabelled", "car", "person", "bike", "curve", "car stop", "guardrail", "cone", "bump")
STRIDE = 16
SLOPE = 0.2
RGB, THERMAL = (16, 48, 48, 96, 96), (16, 16, 16, 36, 36)


class MFNet(nn.Module):
    """Two encoders, colour and thermal, and a decoder that adds their features level by level (Sec. IV, Fig. 3).

    Args:
        num_classes: of the logits; 9 for the released weights.
    """

    def __init__(self, num_classes: int = len(CLASSES)) -> None:
        super().__init__()
        for name, inputs, widths in (("rgb", 3, RGB), ("inf", 1, THERMAL)):
            layers = {
                "conv1": _Conv(inputs, widths[0]),
                "conv2_1": _Conv(widths[0], widths[1]),
                "conv2_2": _Conv(widths[1], widths[1]),
                "conv3_1": _Conv(widths[1], widths[2]),
                "conv3_2": _Conv(widths[2], widths[2]),
                "conv4": _MiniInception(widths[2], widths[3]),
                "conv5": _MiniInception(widths[3], widths[4]),
            }
            for layer, module in layers.items():
                self.add_module(f"{layer}_{name}", module)
        both = [colour + thermal for colour, thermal in zip(RGB, THERMAL, strict=True)]
        self.decode4, self.decode3 = _Conv(both[3], both[2]), _Conv(both[2], both[1])
        self.decode2, self.decode1 = _Conv(both[1], both[0]), _Conv(both[0], num_classes)

    def forward(self, colour: Tensor, thermal: Tensor) -> Tensor:
        """Logits `(B, K, H, W)` of `(B, 3, H, W)` and `(B, 1, H, W)` in [0, 1]; sides are multiples of 16."""
        first, second = self._encode("rgb", colour), self._encode("inf", thermal)
        levels = [torch.cat(pair, dim=1) for pair in zip(first, second, strict=True)]
        features = levels.pop()
        for layer in (self.decode4, self.decode3, self.decode2):
            features = layer(F.interpolate(features, scale_factor=2.0, mode="nearest") + levels.pop())
        return self.decode1(F.interpolate(features, scale_factor=2.0, mode="nearest"))

    def _encode(self, name: str, image: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8 and 16."""
        features, levels = image, []
        for names in (("conv1",), ("conv2_1", "conv2_2"), ("conv3_1", "conv3_2"), ("conv4",), ("conv5",)):
            for layer in names:
                features = self.get_submodule(f"{layer}_{name}")(features)
            levels.append(features)
            features = F.max_pool2d(features, 2)
        return levels[1:]


class _MiniInception(nn.Module):
    """Three layers, each half plain and half dilated by two."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        for place, inputs in ((1, channels), (2, out_channels), (3, out_channels)):
            self.add_module(f"conv{place}_left", _Conv(inputs, half))
            self.add_module(f"conv{place}_right", _Conv(inputs, half, dilation=2))

    def forward(self, features: Tensor) -> Tensor:
        for place in (1, 2, 3):
            sides = [self.get_submodule(f"conv{place}_{side}")(features) for side in ("left", "right")]
            features = torch.cat(sides, dim=1)
        return features


class _Conv(nn.Module):
    def __init__(self, channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu(self.bn(self.conv(features)), SLOPE)
