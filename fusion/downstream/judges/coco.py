"""Released COCO detectors as frozen judges: their classes by name, and which of them stand for a data set's."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.downstream.detection.module import DetectorTraining
from fusion.downstream.judges.weights import load_released
from fusion.downstream.labels import boxes_of
from fusion.errors import ConfigError

NAMES = (
    "person", "bicycle", "car", "motorbike", "aeroplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
    "cake", "chair", "sofa", "pottedplant", "bed", "diningtable", "toilet", "tvmonitor", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 classes in their order."""
MEANS: dict[str, tuple[str, ...]] = {
    "people": ("person",),
    "pedestrian": ("person",),
    "bike": ("bicycle",),
    "motorcycle": ("motorbike",),
    "lamp": ("traffic light",),
}
"""Names of road data sets that COCO has under others; equal names need no entry. Lamp is M3FD's and FMB's traffic light."""


class CocoDetector(DetectorTraining):
    """A frozen COCO detector that speaks a data set's classes.

    Args:
        detector: makes the detector from `num_classes`, with the methods of `FasterRCNN` (`FastestDet`, `YOLOXNano`).
        weights: path of its released weights.
        class_names: of the data set, in the order of its labels.
        mapping: names of COCO that stand for a class, by class; None: by `MEANS` and equal names.

    Raises:
        ConfigError: a class that no COCO class stands for.
        WeightsError: the weights cannot be used.
    """

    def __init__(
        self,
        detector: Any,
        weights: str | None = None,
        class_names: Sequence[str] = ("People", "Car"),
        mapping: Mapping[str, Sequence[str]] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(class_names, lambda num_classes: detector(num_classes=len(NAMES)), images="a", **base)
        self.mapping = {name: _meant(name, mapping) for name in self.class_names}
        table = torch.full((len(NAMES),), -1)
        for label, numbers in enumerate(self.mapping.values()):
            table[list(numbers)] = label
        self.register_buffer("table", table, persistent=False)
        load_released(self.network, weights, "the detector")
        self.eval().requires_grad_(False)

    table: Tensor

    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """What is found of the data set's classes in RGB images `(B, 3, H, W)` in [0, 1]."""
        found = super().detect(images)
        kept = []
        for item in found:
            labels = self.table[item["labels"]]
            known = labels >= 0
            kept.append({"boxes": item["boxes"][known], "scores": item["scores"][known], "labels": labels[known]})
        return kept

    def image_losses(self, images: Tensor, batch: FusionBatch) -> dict[str, Tensor]:
        """The detector's loss terms; a data set's class asks for the first COCO class that stands for it."""
        boxes, labels = boxes_of(batch)
        first = torch.tensor([numbers[0] for numbers in self.mapping.values()])
        coco = [first.to(label.device)[label] for label in labels]
        return self.network.losses(self.network.features(images), (images.shape[-2], images.shape[-1]), boxes, coco)


def _meant(name: str, mapping: Mapping[str, Sequence[str]] | None) -> tuple[int, ...]:
    wanted = (mapping or {}).get(name) or MEANS.get(name.casefold()) or (name.casefold(),)
    unknown = [coco for coco in wanted if coco not in NAMES]
    if unknown:
        raise ConfigError(
            f"class '{name}': COCO has no '{unknown[0]}'; name the classes that stand for it: mapping.{name}=[person]"
        )
    return tuple(NAMES.index(coco) for coco in wanted)
