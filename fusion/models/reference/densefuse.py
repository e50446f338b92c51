"""The network of DenseFuse (Li and Wu, IEEE TIP 2019): a dense encoder, a fusion rule without weights, a decoder."""

from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.errors import ConfigError

RULES = ("addition", "l1")


class DenseFuseNetwork(nn.Module):
    """Two grey images to one (Sec. III, Fig. 2); 74,193 weights.

    Module names follow the authors' PyTorch code, so that its weights load; where its addition averages (it divides the
    sum by two, as its decoder was trained on features of one image), so does this.

    Args:
        rule: "addition", or "l1": softmax-like weights of the features' activity, a local mean of the L1 norm over
            channels (Sec. III-C).

    Raises:
        ConfigError: another rule.
    """

    any_number = True
    margin = 9
    bytes_per_pixel = 1600

    def __init__(self, rule: Literal["addition", "l1"] = "addition") -> None:
        super().__init__()
        if rule not in RULES:
            raise ConfigError(f"model.network.rule={rule}: expected one of {', '.join(RULES)}")
        self.rule = rule
        self.conv1, self.DB1 = _Conv(1, 16), _DenseBlock()
        self.conv2, self.conv3, self.conv4, self.conv5 = _Conv(64, 64), _Conv(64, 32), _Conv(32, 16), _Conv(16, 1)

    def forward(self, *images: Tensor) -> Tensor:
        """Two or more `(B, 1, H, W)` in [0, 1] (Eqs. 3 to 5 are for any number) to one, any size of 2 pixels and more."""
        features = self._meet([self.DB1(self.conv1(image).relu()) for image in images])
        for layer in (self.conv2, self.conv3, self.conv4):
            features = layer(features).relu()
        return self.conv5(features)

    def _meet(self, features: list[Tensor]) -> Tensor:
        if self.rule == "addition":
            return reduce(torch.add, features) / len(features)
        activity = [F.avg_pool2d(one.abs().sum(1, keepdim=True), 3, 1, 1) for one in features]
        total = reduce(torch.add, activity).clamp_min(1e-12)
        shares = [one / total for one in activity[:-1]]
        shares.append(1 - reduce(torch.add, shares))
        return reduce(torch.add, (share * one for share, one in zip(shares, features, strict=True)))


class _Conv(nn.Module):
    """A reflected 3x3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect")

    def forward(self, features: Tensor) -> Tensor:
        return self.conv2d(features)


class _DenseBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.denseblock = nn.ModuleList(_DenseConv(16 * i, 16) for i in (1, 2, 3))

    def forward(self, features: Tensor) -> Tensor:
        for layer in self.denseblock:
            features = layer(features)
        return features


class _DenseConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.dense_conv = _Conv(in_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([features, self.dense_conv(features).relu()], dim=1)
