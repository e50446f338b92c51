"""The auxiliary detectors: two Faster R-CNNs, mixed across modalities, whose attention guides the fusion (Sec. 3.2)."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.layers.faster_rcnn import FasterRCNN, Features
from fusion.models.moe_fusion.attention import Attention, AttentionMap, Boxes

JOINS = ("max", "conv")


class SpatialAttention(nn.Module):
    """Conv-BN-ReLU, Conv-BN-sigmoid: `(B, C, h, w)` to `(B, 1, h, w)` in (0, 1) (Sec. 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(),
            nn.Conv2d(channels // 2, 1, 1, bias=False),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )
        _normal(self)

    def forward(self, features: Tensor) -> Tensor:
        """Attention of one level."""
        return self.layers(features)


class DetectorAttention(Attention):
    """Attention of two detectors that train along, each on its modality.

    Detection losses reach the detectors alone, and fusion losses the fusion network alone: the map is detached.

    Args:
        detector: arguments of both `FasterRCNN`s.
        cross_mix: refine both modalities' features by what a shared 1x1 convolution makes of the two (released code; the
            paper does not mention it).
        join: how the two maps are joined: "max" (released code), or "conv": two convolutions, then the maximum (Sec. 3.2;
            shapes ours).
        train: False freezes the detectors; training then needs no boxes.
    """

    looks_at_little = False

    def __init__(
        self, detector: Mapping[str, Any], cross_mix: bool = True, join: str = "max", train: bool = True
    ) -> None:
        super().__init__()
        if join not in JOINS:
            raise ConfigError(f"model.attention.join={join} is not one of {', '.join(JOINS)}")
        self.detector_a, self.detector_b = FasterRCNN(**detector), FasterRCNN(**detector)
        channels = self.detector_a.backbone.out_channels
        self.cross_mix = nn.Conv2d(2 * channels, channels, 1) if cross_mix else None
        if self.cross_mix is not None:
            _normal(self.cross_mix)
        self.attention_a, self.attention_b = SpatialAttention(channels), SpatialAttention(channels)
        self.learns_from_boxes = train
        if not train:
            self.requires_grad_(False)
        self.join = None
        if join == "conv":  # learns from the fusion losses, so it is not frozen with the detectors
            self.join = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))

    @staticmethod
    def check_config(config: Mapping[str, Any], path: str) -> None:
        """Refuse impossible detectors and choices, before anything is built."""
        known = list(inspect.signature(FasterRCNN).parameters)
        if unknown := [key for key in config["detector"] if key not in known]:
            raise ConfigError(f"unknown key '{path}.detector.{unknown[0]}'; known: {', '.join(known)}")
        try:
            FasterRCNN.check_config(dict(config["detector"]))
        except ConfigError as error:
            raise ConfigError(f"{path}.detector.{error}") from None
        if config.get("join", "max") not in JOINS:
            raise ConfigError(f"{path}.join={config['join']} is not one of {', '.join(JOINS)}")

    def train(self, mode: bool = True) -> "DetectorAttention":
        """Frozen detectors stay in evaluation mode."""
        super().train(mode)
        if not self.learns_from_boxes:
            for part in (self.detector_a, self.detector_b, self.attention_a, self.attention_b):
                part.eval()
        return self

    def forward(self, a: Tensor, b: Tensor, boxes: Boxes | None = None) -> AttentionMap:
        """Attention of a pair at its size; boxes are not looked at. `detail` has both detectors' refined features."""
        features_a, features_b, maps = self._refine(a, b)
        attention = torch.cat(maps, dim=1).detach().float()
        if self.join is not None:
            attention = self.join(attention).amax(1, keepdim=True).sigmoid()
        else:
            attention = attention.amax(1, keepdim=True)
        attention = F.interpolate(attention, a.shape[-2:], mode="bilinear", align_corners=True)
        size = (a.shape[-2], a.shape[-1])
        return AttentionMap(attention, {"features_a": features_a, "features_b": features_b, "size": size})

    def _refine(self, a: Tensor, b: Tensor) -> tuple[Features, Features, list[Tensor]]:
        """Both detectors' levels after mixing and attention, and the two finest attention maps."""
        features_a = self.detector_a.features(a.expand(-1, 3, -1, -1))
        features_b = self.detector_b.features(b.expand(-1, 3, -1, -1))
        finest: list[Tensor] = []
        for level in features_a:
            of_a, of_b = features_a[level], features_b[level]
            if self.cross_mix is not None:
                mixed = self.cross_mix(torch.cat([of_a, of_b], dim=1)).relu()
                of_a, of_b = of_a + mixed, of_b + mixed
            map_a, map_b = self.attention_a(of_a), self.attention_b(of_b)
            features_a[level], features_b[level] = of_a + of_a * map_a, of_b + of_b * map_b
            finest = finest or [map_a, map_b]
        return features_a, features_b, finest

    def losses(self, attention: AttentionMap, boxes: Boxes, labels: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four terms per detector: `a_rpn_class` to `b_roi_box`."""
        if not self.learns_from_boxes:
            return {}
        terms: dict[str, Tensor] = {}
        for name, detector in (("a", self.detector_a), ("b", self.detector_b)):
            found = detector.losses(attention.detail[f"features_{name}"], attention.detail["size"], boxes, labels)
            terms |= {f"{name}_{term}": value for term, value in found.items()}
        return terms

    def load_pretrained(self) -> None:
        """Load both backbones' named weights."""
        self.detector_a.load_pretrained()
        self.detector_b.load_pretrained()


def _normal(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
