"""Average precision of detections, per class and over all."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.downstream.labels import boxes_of
from fusion.errors import ConfigError, DataError

Detections = Sequence[dict[str, Tensor]]
"""Per image `boxes` `(n, 4)` in pixels, `scores` and `labels` `(n,)`, classes counted from 0."""

COCO_IOUS = tuple((50 + 5 * step) / 100 for step in range(10))
"""Thresholds 0.5 to 0.95 of mAP50-95."""


class DetectionScores:
    """Average precision as COCO computes it: 101 recall points, at most 100 boxes per image and class.

    Gives the average precision of every class at `iou` and their mean `mAP` (MoE-Fusion Table 3), and the means over the
    classes `mAP50` at an IoU of 0.5 and `mAP50-95` over ten IoUs from 0.5 to 0.95 (T-OAR's tables).

    Args:
        class_names: in the order of the labels.
        iou: threshold of the classes' values (MoE-Fusion Table 3: 0.5).

    Raises:
        ConfigError: pycocotools, which does the matching, is not installed.
    """

    def __init__(self, class_names: Sequence[str], iou: float = 0.5) -> None:
        self.iou, self.ious = iou, sorted({*COCO_IOUS, iou})
        try:
            from torchmetrics.detection import MeanAveragePrecision

            self._metric: Any = MeanAveragePrecision(iou_thresholds=self.ious, extended_summary=True)
        except (ImportError, ModuleNotFoundError) as error:
            raise ConfigError("scores of detections need pycocotools: pip install 'image-fusion[detection]'") from error
        self._metric.warn_on_many_detections = False
        self.class_names = tuple(class_names)

    def add(self, prediction: Detections, batch: FusionBatch) -> None:
        """Add what was found in a batch, see `update`."""
        self.update(prediction, *boxes_of(batch))

    def update(self, found: Detections, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
        """Add images with what was found in them and what is there."""
        device = found[0]["boxes"].device if found else torch.device("cpu")
        if self._metric.device != device:
            self._metric.to(device)
        truth = [
            {"boxes": box.to(device, torch.float32).reshape(-1, 4), "labels": label.to(device)}
            for box, label in zip(boxes, labels, strict=True)
        ]
        self._metric.update(list(found), truth)

    def compute(self) -> dict[str, float | None]:
        """Scores in [0, 1]; None for classes without a box, over which no mean goes.

        Under data parallelism every rank gets the value of all images.

        Raises:
            DataError: no image had a box.
        """
        result = self._metric.compute()
        values: dict[str, float | None] = dict.fromkeys(self.class_names)
        # precision: thresholds, recall points, classes, areas (all), numbers of boxes (100); -1: found, but never true
        by_class = result["precision"][:, :, :, 0, -1].float().mean(1)
        classes = [
            (int(label), column) for label, column in zip(result["classes"].reshape(-1), by_class.T, strict=True)
        ]
        present = {label: column for label, column in classes if column[0] >= 0}
        if not present:
            raise DataError("no image has a box: detections cannot be scored")
        for label, column in present.items():
            values[self.class_names[label]] = float(column[self.ious.index(self.iou)])
        means = torch.stack(list(present.values())).mean(0)
        at = {iou: float(mean) for iou, mean in zip(self.ious, means, strict=True)}
        return values | {
            "mAP": at[self.iou],
            "mAP50": at[0.5],
            "mAP50-95": sum(at[iou] for iou in COCO_IOUS) / len(COCO_IOUS),
        }

    def reset(self) -> None:
        """Forget all images."""
        self._metric.reset()
