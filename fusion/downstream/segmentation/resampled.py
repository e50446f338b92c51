"""Intersection over union with bootstrap intervals."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.downstream.labels import masks_of
from fusion.downstream.segmentation.scores import IGNORE
from fusion.errors import DataError
from fusion.metrics.bootstrap import resamples, with_intervals
from fusion.ranks import gather_images


class ResampledSegmentationScores:
    """The values of `SegmentationScores`, and the 95% intervals of mIoU, pixel accuracy and every class over the images.

    Args:
        class_names: in the order of the labels.
        count: resamples of the images; 0: no intervals.
        seed: of the resamples.
    """

    def __init__(self, class_names: Sequence[str], count: int = 1000, seed: int = 0) -> None:
        self.class_names, self.count, self.seed = tuple(class_names), count, seed
        self._images: list[tuple[str, np.ndarray]] = []
        self._gathered: dict[str, np.ndarray] = {}
        self.samples: dict[str, np.ndarray] = {}

    def add(self, prediction: Tensor, batch: FusionBatch) -> None:
        """Add predictions `(B, H, W)` for a batch.

        Raises:
            DataError: a class that the scores do not know.
        """
        classes = len(self.class_names)
        sets = batch.get("dataset") or [""] * len(prediction)
        masks = masks_of(batch).to(prediction.device)
        for found, mask, name, dataset in zip(prediction, masks, batch["name"], sets, strict=True):
            counted = mask != IGNORE
            true, seen = mask[counted].long(), found[counted].long()
            if true.numel() and int(true.max()) >= classes:
                raise DataError(
                    f"{name}: a pixel of class {int(true.max())} for {classes} classes (counted from 0): set class_names"
                )
            matrix = torch.bincount(true * classes + seen, minlength=classes**2).reshape(classes, classes)
            self._images.append((f"{dataset}/{name}", matrix.cpu().numpy()))

    def compute(self) -> dict[str, float | None]:
        """IoU by class, `mIoU` and `pixel_accuracy` in [0, 1] with their intervals; over all ranks."""
        self._gathered = gather_images(self._images)
        matrices = np.stack(list(self._gathered.values())).astype(np.float64)
        if not matrices.sum():
            raise DataError("no pixel has a class: segmentations cannot be scored")
        values = {name: _number(drawn[0]) for name, drawn in self._scores(matrices.sum(0)[None]).items()}
        if self.count:
            counts = resamples(len(matrices), self.count, self.seed)
            self.samples = self._scores(np.einsum("ri,ijk->rjk", counts, matrices))
        return with_intervals(values, self.samples)

    def by_image(self) -> list[dict[str, Any]]:
        """A row per image, after `compute`: `image`, and the scores of that image alone; None for classes that are not there."""
        rows = []
        for image, matrix in self._gathered.items():
            drawn = self._scores(matrix.astype(np.float64)[None])
            rows.append({"image": image} | {name: _number(values[0]) for name, values in drawn.items()})
        return rows

    def _scores(self, matrices: np.ndarray) -> dict[str, np.ndarray]:
        hits = np.diagonal(matrices, axis1=1, axis2=2)
        union = matrices.sum(1) + matrices.sum(2) - hits
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice")  # an image whose pixels are all left out
            iou = np.where(union > 0, hits / union, np.nan)
            accuracy = hits.sum(1) / matrices.sum((1, 2))
            mean = np.nanmean(iou, axis=1)
        named = {name: iou[:, place] for place, name in enumerate(self.class_names)}
        return named | {"mIoU": mean, "pixel_accuracy": accuracy}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
