"""YOLO detectors of the package ultralytics, which is under the AGPL-3.0 and therefore never more than an option.

Nothing of it is in this package: `pip install 'image-fusion[yolo]'` brings it.
"""

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from fusion.errors import ConfigError, WeightsError

GRAY = 114 / 255
"""Of what images are padded with (ultralytics)."""
CANDIDATES = 30_000
"""Boxes per image that non-maximum suppression looks at (ultralytics)."""


class YOLO(nn.Module):
    """One detector with the methods of `fusion.layers.faster_rcnn.FasterRCNN`; gradients pass to the images.

    Args:
        num_classes: without a background.
        architecture: of ultralytics, with the letter of its size: "yolov5s", "yolov8n", "yolo11s", ...
        weights: what training starts from: a .pt file of ultralytics or the name of one that it downloads
            ("yolov5su.pt"). Such files are pickles; ultralytics opens them. None: random.
        size: longer side in pixels that images are resized to; None: as they come.
        box, cls, dfl: weights of the loss (ultralytics).
        score_threshold, nms_threshold, detections: of what is returned per image (YOLOv5's validation).

    Raises:
        ConfigError: ultralytics is not installed, or does not know the architecture.
    """

    def __init__(
        self,
        num_classes: int,
        architecture: str = "yolov5s",
        weights: str | None = None,
        size: int | None = 640,
        box: float = 7.5,
        cls: float = 0.5,
        dfl: float = 1.5,
        score_threshold: float = 0.001,
        nms_threshold: float = 0.6,
        detections: int = 300,
    ) -> None:
        super().__init__()
        if not re.fullmatch(r"[A-Za-z0-9_-]+", architecture):  # a path would be a yaml file that ultralytics evaluates
            raise ConfigError(f"architecture={architecture}: expected a name such as yolov5s")
        try:
            from ultralytics.nn.tasks import DetectionModel
        except ImportError as error:
            raise ConfigError(
                "YOLO needs ultralytics (AGPL-3.0): pip install 'image-fusion[yolo]', or take model=faster_rcnn"
            ) from error
        try:
            self.model: Any = DetectionModel(f"{architecture}.yaml", ch=3, nc=num_classes, verbose=False)
        except (OSError, KeyError, ValueError) as error:
            raise ConfigError(f"architecture={architecture}: ultralytics does not know it ({_first(error)})") from error
        if getattr(self.model.model[-1], "one2one_cv2", None) is not None:
            raise ConfigError(f"architecture={architecture} has an end-to-end head: expected one such as yolov5s")
        self.model.args = SimpleNamespace(box=box, cls=cls, dfl=dfl)
        self.num_classes, self.weights, self.size = num_classes, weights, size
        self.stride = int(self.model.stride.max())
        self.score_threshold, self.nms_threshold, self.detections = score_threshold, nms_threshold, detections

    @classmethod
    def recorded_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """A record does not say which pickle to open: the checkpoint beside it has all weights."""
        return {key: value for key, value in config.items() if key != "weights"}

    def features(self, images: Tensor) -> Any:
        """What ultralytics' network gives for RGB images `(B, 3, H, W)` in [0, 1], resized and padded to its strides."""
        self.model.model[-1].shape = None  # anchors that a pass without gradients left would be in the way
        return self.model(letterbox(images, self.size, self.stride))

    def losses(
        self, features: Any, size: tuple[int, int], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The loss of ultralytics, boxes, classes and distributions together, times the number of images; "yolo".

        Args:
            features: of `features`, in training or evaluation mode.
            size: height and width of the images.
            boxes: per image `(n, 4)` x1, y1, x2, y2 in pixels.
            labels: per image `(n,)` classes, counted from 0.
        """
        from ultralytics.utils.loss import v8DetectionLoss

        device = next(self.model.parameters()).device
        scale, (height, width) = fitted(size, self.size, self.stride)
        counts = torch.tensor([len(box) for box in boxes])
        whole = torch.cat([box.to(device, torch.float32).reshape(-1, 4) for box in boxes]) * scale
        extent = torch.tensor([width, height, width, height], device=device)
        targets = {
            "batch_idx": torch.arange(len(boxes)).repeat_interleave(counts).to(device),
            "cls": torch.cat([label.to(device, torch.float32) for label in labels]),
            "bboxes": box_convert(whole, "xyxy", "cxcywh") / extent,
        }
        with torch.autocast(device.type, enabled=False):
            total, _ = v8DetectionLoss(self.model)(features, targets)
        return {"yolo": total.sum()}

    def detect(self, features: Any, size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Per image `boxes` `(n, 4)` in pixels, `scores` and `labels` `(n,)`, classes counted from 0. In eval mode."""
        scale, _ = fitted(size, self.size, self.stride)
        split = (image.float().split((4, self.num_classes)) for image in features[0])
        return [self._select(boxes, scores, scale, size) for boxes, scores in split]

    def _select(self, boxes: Tensor, scores: Tensor, scale: float, size: tuple[int, int]) -> dict[str, Tensor]:
        """Of `(4, N)` centres and sides and `(K, N)` scores, what stays: a box may be of several classes."""
        labels, places = (scores > self.score_threshold).nonzero(as_tuple=True)
        kept = scores[labels, places].topk(min(CANDIDATES, len(places))).indices
        labels, places = labels[kept], places[kept]
        found = box_convert(boxes.T[places], "cxcywh", "xyxy") / scale
        chosen = batched_nms(found, scores[labels, places], labels, self.nms_threshold)[: self.detections]
        found = clip_boxes_to_image(found[chosen], size)
        return {"boxes": found, "scores": scores[labels, places][chosen], "labels": labels[chosen]}

    def load_pretrained(self) -> None:
        """Load what fits of `weights`: all but the last layers where the classes are others.

        Raises:
            WeightsError: unavailable.
        """
        if self.weights is None:
            return
        from ultralytics import YOLO as Pretrained  # noqa: N811

        try:
            trained: Any = Pretrained(self.weights).model
        except Exception as error:  # ultralytics has many
            raise WeightsError(
                f"weights '{self.weights}' could not be had ({_first(error)}): give a .pt file of ultralytics, or start "
                "from random ones with weights=null"
            ) from error
        self.model.load(trained, verbose=False)


def fitted(size: tuple[int, int], longer: int | None, stride: int) -> tuple[float, tuple[int, int]]:
    """Scale that makes the longer side `longer`, and the size after padding to multiples of `stride`."""
    scale = 1.0 if longer is None else longer / max(size)
    return scale, tuple(-(-round(side * scale) // stride) * stride for side in size)  # type: ignore[return-value]


def letterbox(images: Tensor, longer: int | None, stride: int) -> Tensor:
    """Resize `(B, 3, H, W)` and pad right and below, in gray."""
    scale, (height, width) = fitted((images.shape[-2], images.shape[-1]), longer, stride)
    if scale != 1:
        sides = [round(side * scale) for side in images.shape[-2:]]
        images = F.interpolate(images, sides, mode="bilinear", align_corners=False, antialias=scale < 1)
    return F.pad(images, (0, width - images.shape[-1], 0, height - images.shape[-2]), value=GRAY)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
