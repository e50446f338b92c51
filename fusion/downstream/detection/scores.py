"""Average precision of detections, per class."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.downstream.labels import boxes_of
from fusion.errors import ConfigError, DataError

Detections = Sequence[dict[str, Tensor]]
"""Per image `boxes` `(n, 4)` in pixels, `scores` and `labels` `(n,)`, classes counted from 0."""


class DetectionScores:
    """Average precision at one IoU threshold, as COCO computes it (101 recall points, at most 100 boxes per image).

    Args:
        class_names: in the order of the labels.
        iou: threshold (MoE-Fusion Table 3: 0.5).

    Raises:
        ConfigError: pycocotools, which does the matching, is not installed.
    """

    def __init__(self, class_names: Sequence[str], iou: float = 0.5) -> None:
        try:
            from torchmetrics.detection import MeanAveragePrecision

            self._metric: Any = MeanAveragePrecision(iou_thresholds=[iou], class_metrics=True)
        except (ImportError, ModuleNotFoundError) as error:
            raise ConfigError("scores of detections need pycocotools: pip install 'fusion[detection]'") from error
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
        """Average precision in [0, 1] by class, None for classes without a box, and `mAP` over the others.

        Under data parallelism every rank gets the value of all images.

        Raises:
            DataError: no image had a box.
        """
        result = self._metric.compute()
        values: dict[str, float | None] = dict.fromkeys(self.class_names)
        classes, per_class = result["classes"].reshape(-1), result["map_per_class"].reshape(-1)
        for label, value in zip(classes.tolist(), per_class.tolist(), strict=True):
            if value >= 0:  # -1: found there, but never true
                values[self.class_names[label]] = value
        present = [value for value in values.values() if value is not None]
        if not present:
            raise DataError("no image has a box: detections cannot be scored")
        return values | {"mAP": sum(present) / len(present)}

    def reset(self) -> None:
        """Forget all images."""
        self._metric.reset()
