"""Faster R-CNN assembled from torchvision parts, with the features exposed between backbone and heads.

Ren et al. 2015 with the FPN of Lin et al. 2017 and the settings of the mmdetection recipe that MoE-Fusion's code uses.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from fusion.errors import ConfigError, DataError
from fusion.hub import load_strict
from fusion.layers.normalize import ImageNetNormalize
from fusion.layers.pretrained import trunk_state

BACKBONES = {"resnet18": (64, 1), "resnet34": (64, 1), "resnet50": (64, 4), "resnet101": (64, 4)}
"""Channels of the first stage before and after expansion."""
NORMS = {"frozen": FrozenBatchNorm2d, "group": partial(nn.GroupNorm, 8)}
Features = dict[str, Tensor]


class BoxHead(RoIHeads):
    """torchvision's RoI heads with a configurable knee of the box loss (torchvision: 1/9, the recipe: 1)."""

    beta: float = 1.0

    def forward(self, features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> Any:
        """Losses in training, detections else; arguments as in torchvision."""
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        proposals, _, labels, regression_targets = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        scores, offsets = self.box_predictor(self.box_head(pooled))
        labels, regression_targets = torch.cat(labels), torch.cat(regression_targets)
        positive = (labels > 0).nonzero().squeeze(1)
        offsets = offsets.view(len(labels), -1, 4)[positive, labels[positive]]
        box = F.smooth_l1_loss(offsets, regression_targets[positive], beta=self.beta, reduction="sum")
        return [], {"roi_class": F.cross_entropy(scores, labels), "roi_box": box / max(len(labels), 1)}


class FasterRCNN(nn.Module):
    """One detector; it takes images at the size they come.

    Args:
        num_classes: without the background.
        backbone: one of `BACKBONES`.
        weights: what training starts from: "imagenet" for the backbone, the path of a state dict of it, or None.
        frozen_stages: stem, then stages 1-4, that do not train: 2 are stem and stage 1.
        norm: norm layers of the backbone: "frozen" batch norms, for pretrained weights; "group" norms, to start from random ones.
        channels: width of the FPN levels.
        hidden: width of the box head's two layers.
        anchors: side in pixels of each level's anchors; ratios are 1:2, 1:1, 2:1.
        proposals: after NMS, in training and else; before NMS as many are taken from each level.
        rpn_samples, roi_samples: anchors and proposals per image that are trained on.
        roi_beta: knee of the box head's smooth L1.
        score_threshold, nms_threshold, detections: limits on the detections of an image.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet50",
        weights: str | None = None,
        frozen_stages: int = 2,
        norm: str = "frozen",
        channels: int = 256,
        hidden: int = 1024,
        anchors: Sequence[int] = (32, 64, 128, 256, 512),
        proposals: Sequence[int] = (2000, 1000),
        rpn_samples: int = 256,
        roi_samples: int = 512,
        roi_beta: float = 1.0,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections: int = 100,
    ) -> None:
        super().__init__()
        self.check_config(
            {
                "num_classes": num_classes,
                "backbone": backbone,
                "weights": weights,
                "frozen_stages": frozen_stages,
                "norm": norm,
                "anchors": anchors,
            }
        )
        self.num_classes, self.weights, self.backbone_name = num_classes, weights, backbone
        self.normalize = ImageNetNormalize()
        self.backbone = _backbone(backbone, frozen_stages, norm, channels)
        generator = AnchorGenerator(tuple((side,) for side in anchors), ((0.5, 1.0, 2.0),) * len(anchors))
        self.rpn = RegionProposalNetwork(
            generator,
            RPNHead(channels, 3),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=rpn_samples,
            positive_fraction=0.5,
            pre_nms_top_n={"training": proposals[0], "testing": proposals[1]},
            post_nms_top_n={"training": proposals[0], "testing": proposals[1]},
            nms_thresh=0.7,
        )
        self.roi = BoxHead(
            MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
            TwoMLPHead(channels * 7**2, hidden),
            FastRCNNPredictor(hidden, num_classes + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=roi_samples,
            positive_fraction=0.25,
            bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=detections,
        )
        self.roi.beta = roi_beta

    @staticmethod
    def check_config(config: dict[str, Any]) -> None:
        """Refuse impossible values, before anything large is built."""
        if config.get("num_classes", 1) < 1:
            raise ConfigError(f"num_classes={config['num_classes']}: expected at least 1, the background not counted")
        if config.get("backbone", "resnet50") not in BACKBONES:
            raise ConfigError(f"backbone={config['backbone']} is not one of {', '.join(BACKBONES)}")
        if config.get("norm", "frozen") not in NORMS:
            raise ConfigError(f"norm={config['norm']} is not one of {', '.join(NORMS)}")
        if config.get("norm") == "group" and config.get("weights") is not None:
            raise ConfigError(f"weights={config['weights']} have batch norms: set norm=frozen, or weights=null")
        if not 0 <= config.get("frozen_stages", 2) <= 5:
            raise ConfigError(f"frozen_stages={config['frozen_stages']}: expected 0 (all train) to 5 (none)")
        if len(config.get("anchors", range(5))) != 5:
            raise ConfigError(f"anchors={list(config['anchors'])}: expected five sides in pixels, one per level")

    def features(self, images: Tensor) -> Features:
        """FPN levels "0" (stride 4) to "3" and "pool" of RGB images `(B, 3, H, W)` in [0, 1]."""
        return self.backbone(self.normalize(images))

    def losses(
        self, features: Features, size: tuple[int, int], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The four terms of training: `rpn_class`, `rpn_box`, `roi_class`, `roi_box`; also of a frozen detector.

        Args:
            features: of `features`, perhaps refined.
            size: height and width of the images.
            boxes: per image `(n, 4)` x1, y1, x2, y2 in pixels; images without any teach the background.
            labels: per image `(n,)` classes, counted from 0.

        Raises:
            DataError: classes that the detector does not have.
        """
        device = features["0"].device
        targets = [_target(b, c, self.num_classes, device) for b, c in zip(boxes, labels, strict=True)]
        with torch.autocast(device.type, enabled=False), _training(self.rpn, self.roi):
            images, features = self._frame(features, size)  # half-precision features make half-precision anchors
            proposals, rpn = self.rpn(images, features, targets)
            _, roi = self.roi(features, proposals, images.image_sizes, targets)
        return {"rpn_class": rpn["loss_objectness"], "rpn_box": rpn["loss_rpn_box_reg"], **roi}

    def detect(self, features: Features, size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Per image `boxes` `(n, 4)` in pixels, `scores` and `labels` `(n,)`, classes counted from 0. In eval mode."""
        with torch.autocast(features["0"].device.type, enabled=False):
            images, features = self._frame(features, size)
            proposals, _ = self.rpn(images, features)
            found, _ = self.roi(features, proposals, images.image_sizes)
        return [{**image, "labels": image["labels"] - 1} for image in found]

    def load_pretrained(self) -> None:
        """Load `weights` into the backbone.

        Raises:
            WeightsError: unavailable, or of another backbone.
        """
        if self.weights is None:
            return
        state = trunk_state(self.backbone_name, self.weights)
        counters = [key for key in state if key.endswith("num_batches_tracked")]  # frozen norms have none
        load_strict(self.backbone.body, state, self.weights, may_miss=counters, ignore=counters)

    def _frame(self, features: Features, size: tuple[int, int]) -> tuple[ImageList, Features]:
        """What the anchors ask of the images, their size; and the features in float32."""
        features = {level: value.float() for level, value in features.items()}
        frame = features["0"].new_empty(()).expand(len(features["0"]), 3, *size)
        return ImageList(frame, [size] * len(frame)), features


def _backbone(name: str, frozen_stages: int, norm: str, channels: int) -> BackboneWithFPN:
    body = get_model(name, weights=None, norm_layer=NORMS[norm])
    stages = [[body.conv1, body.bn1], *([getattr(body, f"layer{i}")] for i in range(1, 5))]
    for stage in stages[:frozen_stages]:
        for module in stage:
            module.requires_grad_(False)
    first, expansion = BACKBONES[name]
    widths = [first * expansion * 2**i for i in range(4)]
    fpn = BackboneWithFPN(body, {f"layer{i}": str(i - 1) for i in range(1, 5)}, widths, channels)
    for module in fpn.fpn.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return fpn


@contextmanager
def _training(*parts: nn.Module) -> Iterator[None]:
    """In training mode for a while, which torchvision asks for where it computes losses; nothing in these parts has a state."""
    modes = [part.training for part in parts]
    for part in parts:
        part.train()
    try:
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.train(mode)


def _target(boxes: Tensor, labels: Tensor, num_classes: int, device: torch.device) -> dict[str, Tensor]:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(
            f"a box of class {int(labels.max())} for a detector of {num_classes} classes (counted from 0): set its "
            "num_classes to those of the data set"
        )
    boxes = boxes.to(device, torch.float32).reshape(-1, 4)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(1)  # a crop may leave slivers
    return {"boxes": boxes[solid], "labels": labels.to(device, torch.int64)[solid] + 1}
