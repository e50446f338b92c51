"""Scores of segmentations."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from fusion.data.batch import FusionBatch
from fusion.downstream.labels import masks_of
from fusion.errors import DataError

IGNORE = 255


class SegmentationScores:
    """Intersection over union of each class over all pixels of all images, and their mean.

    Classes that are neither there nor found do not count (None).

    Args:
        class_names: in the order of the labels.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self._matrix = MulticlassConfusionMatrix(len(self.class_names), ignore_index=IGNORE, validate_args=False)

    def add(self, prediction: Tensor, batch: FusionBatch) -> None:
        """Add predictions for a batch, see `update`."""
        self.update(prediction, masks_of(batch))

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Add images.

        Args:
            prediction: `(B, H, W)` class of every pixel.
            mask: `(B, H, W)` true class, 255 where it does not count.

        Raises:
            DataError: a class that the scores do not know.
        """
        counted = mask[mask != IGNORE]
        if counted.numel() and int(counted.max()) >= len(self.class_names):
            raise DataError(
                f"a pixel of class {int(counted.max())} for {len(self.class_names)} classes (counted from 0): set "
                "class_names to those of the data set"
            )
        self._matrix.to(prediction.device)
        self._matrix.update(prediction, mask.to(prediction.device))

    def compute(self) -> dict[str, float | None]:
        """IoU in [0, 1] by class, `mIoU`, and `pixel_accuracy`; over all ranks."""
        matrix = self._matrix.compute().double()
        hits = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - hits
        present = union > 0
        if not present.any():
            raise DataError("no pixel has a class: segmentations cannot be scored")
        iou = hits / union.clamp_min(1)
        values: dict[str, float | None] = {
            name: value if there else None
            for name, value, there in zip(self.class_names, iou.tolist(), present.tolist(), strict=True)
        }
        accuracy = (hits.sum() / torch.clamp_min(matrix.sum(), 1)).item()
        return values | {"mIoU": iou[present].mean().item(), "pixel_accuracy": accuracy}
