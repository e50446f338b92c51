"""The network of IFCNN (Zhang et al., Information Fusion 2020): shared features, an elementwise rule, a short decoder."""

from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.errors import ConfigError

RULES = ("max", "sum", "mean")


class IFCNNNetwork(nn.Module):
    """Two colour images to one (Sec. 3, Fig. 2); 83,587 weights.

    Module names follow the released weights, which come without a licence. The first layer is ResNet-101's, moved by one
    pixel where that moves by two.

    Args:
        rule: how the sources' features meet: "max" (IFCNN-MAX: multi-focus, infrared, medical), "mean" (IFCNN-MEAN:
            multi-exposure) or "sum".

    Raises:
        ConfigError: another rule.
    """

    any_number = True
    margin = 5
    bytes_per_pixel = 1600

    def __init__(self, rule: Literal["max", "sum", "mean"] = "max") -> None:
        super().__init__()
        if rule not in RULES:
            raise ConfigError(f"model.network.rule={rule}: expected one of {', '.join(RULES)}")
        self.rule = rule
        self.conv1 = nn.Conv2d(3, 64, 7, bias=False)
        self.conv2, self.conv3 = _Block(64), _Block(64)
        self.conv4 = nn.Conv2d(64, 3, 1)

    def forward(self, *images: Tensor) -> Tensor:
        """Two or more normalised `(B, 3, H, W)` (Eq. 3 is for any number) to one; any size of 4 pixels and more."""
        features = [self.conv2(self.conv1(F.pad(image, (3, 3, 3, 3), "replicate"))) for image in images]
        return self.conv4(self.conv3(self._meet(features)))

    def _meet(self, features: list[Tensor]) -> Tensor:
        if self.rule == "max":
            return reduce(torch.maximum, features)
        total = reduce(torch.add, features)
        return total / len(features) if self.rule == "mean" else total


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.bn(self.conv(F.pad(features, (1, 1, 1, 1), "replicate"))).relu()
