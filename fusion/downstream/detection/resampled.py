"""Average precision with bootstrap intervals: matching once per image, precision and recall once per resample."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from fusion.data.batch import FusionBatch
from fusion.downstream.detection.scores import COCO_IOUS, Detections
from fusion.downstream.labels import boxes_of
from fusion.errors import DataError
from fusion.metrics.bootstrap import resamples, with_intervals
from fusion.ranks import gather_images

MAX_DETECTIONS = 100
RECALLS = np.linspace(0, 1, 101)
SURE = 0.3
"""Score from which on a box counts as found in the rows of single images."""


class Matched(NamedTuple):
    """One image and one class: `scores` `(n,)` of the found boxes, `true` `(T, n)` which are right, `boxes` there."""

    scores: np.ndarray
    true: np.ndarray
    boxes: int


class ResampledDetectionScores:
    """Average precision as COCO computes it, and its 95% interval over the test images.

    The values are those of `DetectionScores`; besides, `_low` and `_high` of mAP, mAP50, mAP50-95 and of every class.

    Args:
        class_names: in the order of the labels.
        iou: threshold of the classes' values and of `mAP`.
        count: resamples of the images; 0: no intervals.
        seed: of the resamples.
    """

    def __init__(self, class_names: Sequence[str], iou: float = 0.5, count: int = 1000, seed: int = 0) -> None:
        self.class_names, self.iou, self.ious = tuple(class_names), iou, sorted({*COCO_IOUS, iou})
        self.count, self.seed = count, seed
        self._images: list[tuple[str, list[Matched]]] = []
        self._gathered: dict[str, list[Matched]] = {}
        self.samples: dict[str, np.ndarray] = {}

    def add(self, prediction: Detections, batch: FusionBatch) -> None:
        """Add what was found in a batch."""
        boxes, labels = boxes_of(batch)
        sets = batch.get("dataset") or [""] * len(boxes)
        for found, box, label, name, dataset in zip(prediction, boxes, labels, batch["name"], sets, strict=True):
            self._images.append((f"{dataset}/{name}", self._match(found, box, label)))

    def compute(self) -> dict[str, float | None]:
        """Scores in [0, 1] with their intervals; None for classes without a box. Over all ranks.

        Raises:
            DataError: no image had a box.
        """
        self._gathered = gather_images(self._images)
        images = list(self._gathered.values())
        if not any(item.boxes for matched in images for item in matched):
            raise DataError("no image has a box: detections cannot be scored")
        ones = np.ones((1, len(images)), dtype=np.int64)
        values = {name: _number(drawn[0]) for name, drawn in self._scores(images, ones).items()}
        if self.count:
            self.samples = self._scores(images, resamples(len(images), self.count, self.seed))
        return with_intervals(values, self.samples)

    def by_image(self) -> list[dict[str, Any]]:
        """A row per image, after `compute`: `image`, the scores of that image alone (None without a box), and how many boxes
        of every class there are and are found by `iou` at a score of `SURE` or more.
        """
        one = np.ones((1, 1), dtype=np.int64)
        rows = []
        for image, matched in self._gathered.items():
            row: dict[str, Any] = {"image": image}
            row |= {name: _number(drawn[0]) for name, drawn in self._scores([matched], one).items()}
            for name, item in zip(self.class_names, matched, strict=True):
                right = item.true[self.ious.index(self.iou)]
                row |= {f"{name}_boxes": item.boxes, f"{name}_found": int(right[item.scores >= SURE].sum())}
            rows.append(row)
        return rows

    def _match(self, found: dict[str, Tensor], boxes: Tensor, labels: Tensor) -> list[Matched]:
        found = {key: value.detach().cpu() for key, value in found.items()}
        matched = []
        for number in range(len(self.class_names)):
            mine = found["labels"] == number
            order = torch.argsort(found["scores"][mine], descending=True, stable=True)[:MAX_DETECTIONS]
            truth = boxes.cpu().float().reshape(-1, 4)[labels.cpu() == number]
            overlap = box_iou(found["boxes"][mine][order].float(), truth).numpy()
            true = np.stack([_greedy(overlap, threshold) for threshold in self.ious])
            matched.append(Matched(found["scores"][mine][order].numpy(), true, len(truth)))
        return matched

    def _scores(self, images: list[list[Matched]], counts: np.ndarray) -> dict[str, np.ndarray]:
        """Every score for every row of `counts` `(R, images)`, `(R,)` each; nan where there is no box."""
        by_class = np.stack(
            [self._precision([image[k] for image in images], counts) for k in range(len(self.class_names))]
        )
        with np.errstate(invalid="ignore"):
            there = np.isfinite(by_class[..., 0]).sum(0)  # (R,)
            means = np.nansum(by_class, axis=0) / np.where(there, there, np.nan)[:, None]
        at = {iou: means[:, place] for place, iou in enumerate(self.ious)}
        named = {name: by_class[k, :, self.ious.index(self.iou)] for k, name in enumerate(self.class_names)}
        coco = sum(at[iou] for iou in COCO_IOUS) / len(COCO_IOUS)
        return named | {"mAP": at[self.iou], "mAP50": at[0.5], "mAP50-95": np.asarray(coco)}

    def _precision(self, images: list[Matched], counts: np.ndarray) -> np.ndarray:
        """Average precision `(R, T)` of one class."""
        scores = np.concatenate([image.scores for image in images])
        true = np.concatenate([image.true for image in images], axis=1)
        owner = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])
        boxes = counts @ np.array([image.boxes for image in images])
        order = np.argsort(-scores, kind="stable")
        true, owner = true[:, order], owner[order]
        result = np.full((len(counts), len(self.ious)), np.nan)
        for row, weights in enumerate(counts):
            if boxes[row]:
                result[row] = _interpolated(true, weights[owner], boxes[row])
        return result


def _greedy(overlap: np.ndarray, threshold: float) -> np.ndarray:
    """Which found boxes, best first, are right: each takes the free true box it overlaps most, if it does so enough."""
    free = np.ones(overlap.shape[1], dtype=bool)
    right = np.zeros(len(overlap), dtype=bool)
    for place, row in enumerate(overlap):
        candidates = np.where(free, row, -1.0)
        if (
            candidates.size
            and (best := int(candidates.argmax())) >= 0
            and candidates[best] >= min(threshold, 1 - 1e-10)
        ):
            right[place], free[best] = True, False
    return right


def _interpolated(true: np.ndarray, weights: np.ndarray, boxes: int) -> np.ndarray:
    """Mean over 101 recalls of the best precision at that recall or above, per threshold `(T,)`."""
    hits, all_found = np.cumsum(true * weights, axis=1), np.cumsum(weights)
    precision = hits / np.maximum(all_found, np.finfo(float).eps)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    values = np.zeros(len(true))
    for place, (recall, best) in enumerate(zip(hits / boxes, envelope, strict=True)):
        index = np.searchsorted(recall, RECALLS, side="left")
        values[place] = best[index[index < len(best)]].sum() / len(RECALLS)
    return values


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
