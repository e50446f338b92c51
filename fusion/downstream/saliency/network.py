"""CTDNet-18: a complementary trilateral decoder for salient objects (Zhao et al., ACM MM 2021; released code)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from fusion.hub import load_strict
from fusion.layers.pretrained import trunk_state

MEAN, STD = (124.55, 118.90, 102.94), (56.77, 55.97, 57.50)
"""Of RGB in [0, 255] (released code)."""


class SaliencyLogits(NamedTuple):
    """Logits `(B, 1, H, W)`: of the saliency map, of its edge, and of the maps that supervise the decoder from within."""

    saliency: Tensor
    edge: Tensor
    inner: tuple[Tensor, ...]


class CTDNet(nn.Module):
    """ResNet-18 and three decoder paths: global at 1/32 and 1/16, spatial at 1/8, edges at 1/4.

    Args:
        channels: width of the decoder.
        weights: "imagenet" for torchvision's trunk, path of a state dict of it, or None; loaded by `load_pretrained`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 64, weights: str | None = None) -> None:
        super().__init__()
        self.weights = weights
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1) / 255, persistent=False)
        trunk = resnet18(weights=None)
        self.stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool)
        self.stages = nn.ModuleList([trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4])
        self.scene, self.deep = _squeeze(512, channels), _squeeze(512, channels)
        self.middle, self.fine = _squeeze(256, channels), _squeeze(64, channels)
        self.spatial = SpatialAttention(128, channels)
        self.scene_and_deep, self.deep_and_middle = Product(channels), Product(channels)
        self.cross, self.edges, self.refine = (
            CrossAggregation(channels),
            Product(channels),
            BoundaryRefinement(channels),
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 3, padding=1) for _ in range(5))
        self.edge_head = nn.Conv2d(channels, 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> SaliencyLogits:
        """Logits at the size of RGB images `(B, 3, H, W)` in [0, 1]."""
        level = self.stem((images - self.mean) / self.std)
        levels = []
        for stage in self.stages:
            level = stage(level)
            levels.append(level)
        quarter, eighth, sixteenth, last = levels
        scene = self.scene(last.mean((2, 3), keepdim=True)).expand(-1, -1, *last.shape[2:])
        deep = _resize(self.scene_and_deep(scene, self.deep(last).relu()), sixteenth)
        middle = self.deep_and_middle(deep, self.middle(sixteenth).relu())
        crossed = _resize(self.cross(middle, self.spatial(eighth)), quarter)
        edges = self.edges(self.fine(quarter).relu(), _resize(deep, quarter))
        maps = (self.refine(crossed, edges), crossed, middle, deep, scene)
        logits = [_resize(head(features), images) for head, features in zip(self.heads, maps, strict=True)]
        return SaliencyLogits(logits[0], _resize(self.edge_head(edges), images), tuple(logits[1:]))

    def load_pretrained(self) -> None:
        """Load `weights` into the trunk.

        Raises:
            WeightsError: unavailable, or of another network.
        """
        if self.weights is None:
            return
        trunk = resnet18(weights=None)
        trunk.fc = nn.Identity()
        load_strict(trunk, trunk_state("resnet18", self.weights), self.weights)
        self.stem.load_state_dict(nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool).state_dict())
        for stage, loaded in zip(self.stages, (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4), strict=True):
            stage.load_state_dict(loaded.state_dict())


class Product(nn.Sequential):
    """FFM: the product of two features and two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__(_conv(channels, channels), _conv(channels, channels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """Two `(B, C, H, W)` to one."""
        return super().forward(x * y)


class CrossAggregation(nn.Module):
    """CAM: high and low level meet at both of their resolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = _conv(channels, channels, stride=2)
        self.at_low, self.at_high, self.product = (
            _conv(channels, channels),
            _conv(channels, channels),
            Product(channels),
        )

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """`(B, C, h, w)` and `(B, C, 2h, 2w)` to the latter's size."""
        left = self.at_low(low * _resize(high, low))
        right = self.at_high(_resize(self.down(low), high) * high)
        return self.product(left, _resize(right, low))


class SpatialAttention(nn.Module):
    """SAM: places are weighed by mean and maximum over the channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        self.conv = _conv(channels, out)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, out, H, W)`."""
        seen = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)
        return self.conv(features * self.attention(seen).sigmoid())


class BoundaryRefinement(nn.Module):
    """BRM: channels of the sum of regions and edges are weighed by their mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, channels, 1, bias=False)
        self.convs = nn.Sequential(_conv(channels, channels), _conv(channels, channels))

    def forward(self, regions: Tensor, edges: Tensor) -> Tensor:
        """Two `(B, C, H, W)` to one."""
        both = regions + edges
        return self.convs(both + both * self.attention(both.mean((2, 3), keepdim=True)).sigmoid())


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def _squeeze(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
