"""FastestDet, a detector of 80 COCO classes with 0.24 million weights: ShuffleNet V2, one level at 1/16, no anchors.

The released weights are under BSD-3-Clause (https://github.com/dog-qiuqiu/FastestDet, weights/*.pth); module names follow them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image, complete_box_iou_loss

REPEATS = (4, 8, 4)
CHANNELS = (24, 48, 96, 192)
SIDE = 352
"""Images are resized to this square (released configuration)."""


def side_for(height: int, width: int) -> int:
    """The square, a multiple of 32, that shows an image at the scale at which 352 shows 640x480."""
    return max(1, round(SIDE * (height * width / (640 * 480)) ** 0.5 / 32)) * 32


class FastestDet(nn.Module):
    """The detector; `features`, `losses` and `detect` are as `fusion.layers.faster_rcnn.FasterRCNN` has them.

    Args:
        num_classes: of the classifier; 80 for the released weights.
        side: images are resized to this square; a multiple of 32. None: in proportion to the image, 352 for 640x480, so that
            crops are seen at the scale of whole pictures.
        score_threshold, nms_threshold, detections: of what is returned per image (released evaluation: 0.001, 0.45).
    """

    def __init__(
        self,
        num_classes: int = 80,
        side: int | None = SIDE,
        score_threshold: float = 0.001,
        nms_threshold: float = 0.45,
        detections: int = 100,
    ) -> None:
        super().__init__()
        self.side, self.score_threshold = side, score_threshold
        self.nms_threshold, self.detections = nms_threshold, detections
        self.backbone = _ShuffleNet()
        self.SPP = _Pool(sum(CHANNELS[1:]), CHANNELS[2])
        self.detect_head = _Head(CHANNELS[2], num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Raw outputs `(B, 5 + K, side / 16, side / 16)` of RGB images `(B, 3, H, W)` in [0, 1].

        Channels: objectness in [0, 1]; x, y, width and height before their squashing; class probabilities.
        """
        side = self.side or side_for(*images.shape[-2:])
        resized = F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
        fine, middle, coarse = self.backbone(resized.flip(1))  # BGR, as OpenCV reads
        joined = [F.avg_pool2d(fine, 3, 2, 1), middle, F.interpolate(coarse, scale_factor=2.0, mode="nearest")]
        return self.detect_head(self.SPP(torch.cat(joined, dim=1)))

    def detect(self, features: Tensor, size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Per image `boxes` `(n, 4)` xyxy in pixels of an image of `size`, `scores` and `labels` `(n,)`."""
        scale = features.new_tensor([size[1], size[0], size[1], size[0]])
        found = []
        for objectness, boxes, classes in zip(*_unpacked(features), strict=True):
            best, labels = classes.max(1)
            scores = objectness * best
            kept = scores > self.score_threshold
            scores, labels, corners = scores[kept], labels[kept], boxes[kept] * scale
            chosen = batched_nms(corners, scores, labels, self.nms_threshold)[: self.detections]
            corners = clip_boxes_to_image(corners[chosen], size)
            found.append({"boxes": corners, "scores": scores[chosen], "labels": labels[chosen]})
        return found

    def losses(
        self, features: Tensor, size: tuple[int, int], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Box, objectness and class terms with the released weights 8, 16 and 1.

        The four cells around a box's centre answer for it, those that overlap it more than the average; objectness follows
        the overlap. The box term is complete IoU (Zheng et al., 2020), where the release has SIoU.

        Args:
            features: of `features`.
            size: height and width of the images.
            boxes: per image `(n, 4)` xyxy in pixels.
            labels: per image `(n,)` classes from 0.
        """
        objectness, predicted, classes = _unpacked(features)
        cells = features.shape[-1]
        target = torch.zeros_like(objectness)
        weight = torch.full_like(objectness, 0.75)
        image, cell, wanted, label = _assigned(boxes, labels, size, cells, features.device)
        zero = features.sum() * 0
        if not len(image):
            return {"box": zero, "objectness": 16 * _smooth(objectness, target, weight), "class": zero}
        loss = complete_box_iou_loss(predicted[image, cell], wanted, reduction="none")
        near = loss <= loss.detach().mean()
        image, cell, label, loss = image[near], cell[near], label[near], loss[near]
        target[image, cell] = (1 - loss.detach()).clamp(0, 1)
        counts = torch.bincount(image, minlength=len(objectness))[image]
        weight[image, cell] = 0.25 * objectness.shape[1] / counts
        probability = classes[image, cell, label].clamp_min(1e-9)
        return {
            "box": 8 * loss.mean(),
            "objectness": 16 * _smooth(objectness, target, weight),
            "class": -probability.log().mean(),
        }

    def load_pretrained(self) -> None:
        """Nothing: the weights are given with the judge."""


def _smooth(found: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (F.smooth_l1_loss(found, target, reduction="none") * weight).mean()


def _unpacked(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Objectness `(B, N)`, boxes `(B, N, 4)` xyxy as shares of the image, class probabilities `(B, N, K)`."""
    height, width = features.shape[-2:]
    flat = features.flatten(2).transpose(1, 2)
    y, x = torch.meshgrid(
        torch.arange(height, device=features.device), torch.arange(width, device=features.device), indexing="ij"
    )
    centre_x = (flat[..., 1].tanh() + x.flatten()) / width
    centre_y = (flat[..., 2].tanh() + y.flatten()) / height
    half_w, half_h = flat[..., 3].sigmoid() / 2, flat[..., 4].sigmoid() / 2
    corners = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
    return flat[..., 0], torch.stack(corners, dim=-1), flat[..., 5:]


def _assigned(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], size: tuple[int, int], cells: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image, cell, box (shares) and class of every answer that is wanted."""
    counts = torch.tensor([len(box) for box in boxes])
    image = torch.arange(len(boxes)).repeat_interleave(counts).to(device).repeat(4)
    extent = torch.tensor([size[1], size[0], size[1], size[0]], device=device)
    wanted = torch.cat([box.to(device, torch.float32).reshape(-1, 4) for box in boxes]) / extent
    centres = ((wanted[:, :2] + wanted[:, 2:]) / 2 * cells).long()
    corner = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=device)
    places = (centres[None] + corner[:, None]).flatten(0, 1)
    label = torch.cat([item.to(device) for item in labels]).repeat(4)
    inside = (places < cells).all(1)
    cell = places[:, 1] * cells + places[:, 0]
    return image[inside], cell[inside], wanted.repeat(4, 1)[inside], label[inside]


class _ShuffleNet(nn.Module):
    """ShuffleNet V2 (Ma et al., ECCV 2018); outputs at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        channels = CHANNELS[0]
        stages = []
        for repeat, wider in zip(REPEATS, CHANNELS[1:], strict=True):
            blocks = [_Unit(channels, wider, 2), *(_Unit(wider // 2, wider, 1) for _ in range(repeat - 1))]
            stages.append(nn.Sequential(*blocks))
            channels = wider
        self.stage2, self.stage3, self.stage4 = stages

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.stage2(F.max_pool2d(self.first_conv(images), 3, 2, 1))
        middle = self.stage3(fine)
        return fine, middle, self.stage4(middle)


class _Unit(nn.Module):
    """Half of the channels pass; the released network takes every second one, before the convolutions."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        middle, wider = out_channels // 2, out_channels - channels
        self.branch_main = nn.Sequential(
            *_pointwise(channels, middle),
            nn.ReLU(),
            *_depthwise(middle, 3, stride),
            *_pointwise(middle, wider),
            nn.ReLU(),
        )
        self.branch_proj: nn.Module | None = None
        if stride == 2:
            self.branch_proj = nn.Sequential(
                *_depthwise(channels, 3, stride), *_pointwise(channels, channels), nn.ReLU()
            )

    def forward(self, features: Tensor) -> Tensor:
        if self.branch_proj is not None:
            return torch.cat([self.branch_proj(features), self.branch_main(features)], dim=1)
        return torch.cat([features[:, ::2], self.branch_main(features[:, 1::2])], dim=1)


class _Pool(nn.Module):
    """One, two and three 5x5 convolutions side by side, added to their input."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.Conv1x1 = _Squeeze(in_channels, channels)
        self.S1, self.S2, self.S3 = (
            nn.Sequential(*(layer for _ in range(depth) for layer in (*_depthwise(channels, 5, 1), nn.ReLU())))
            for depth in (1, 2, 3)
        )
        self.output = nn.Sequential(*_pointwise(3 * channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        features = self.Conv1x1(features)
        branches = [branch(features) for branch in (self.S1, self.S2, self.S3)]
        return (features + self.output(torch.cat(branches, dim=1))).relu()


class _Head(nn.Module):
    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv1x1 = _Squeeze(channels, channels)
        self.obj_layers, self.reg_layers, self.cls_layers = (_Branch(channels, n) for n in (1, 4, num_classes))

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv1x1(features)
        objectness, classes = self.obj_layers(features).sigmoid(), self.cls_layers(features).softmax(1)
        return torch.cat([objectness, self.reg_layers(features), classes], dim=1)


class _Squeeze(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Sequential(*_pointwise(in_channels, out_channels), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        return self.conv1x1(features)


class _Branch(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv5x5 = nn.Sequential(*_depthwise(channels, 5, 1), nn.ReLU(), *_pointwise(channels, out_channels))

    def forward(self, features: Tensor) -> Tensor:
        return self.conv5x5(features)


def _pointwise(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)


def _depthwise(channels: int, side: int, stride: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(channels, channels, side, stride, side // 2, groups=channels, bias=False)
    return conv, nn.BatchNorm2d(channels)
