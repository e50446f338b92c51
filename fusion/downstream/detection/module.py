"""Training of the detector that fused images are tested with (MoE-Fusion Table 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.downstream.detection.scores import DetectionScores
from fusion.downstream.labels import boxes_of
from fusion.layers.faster_rcnn import FasterRCNN
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput


class DetectorTraining(FusionModel):
    """One Faster R-CNN for visible and infrared images alike; both of a pair are training images with the same boxes.

    Args:
        class_names: in the order of the data set's labels.
        detector: arguments of `FasterRCNN`, without `num_classes`.
        base: see `FusionModel`.
    """

    def __init__(self, class_names: Sequence[str], detector: Mapping[str, Any] | None = None, **base: Any) -> None:
        super().__init__(**base)
        self.class_names = tuple(class_names)
        self.network = FasterRCNN(num_classes=len(self.class_names), **(detector or {}))
        self._loaded = False
        self._found: dict[str, DetectionScores] = {}

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Refuse impossible detectors, before anything is built."""
        FasterRCNN.check_config({**(config.get("detector") or {}), "num_classes": len(config["class_names"])})

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", **controls: Any) -> FusionOutput:
        """Features of both images in training; what is found in each else, in `extras["detections"]["a"]` and `["b"]`.

        Nothing is fused: `fused` is `a`.
        """
        if self.training:
            return FusionOutput(a, extras={"features": self.network.features(torch.cat([a, b]))})
        return FusionOutput(a, extras={"detections": {"a": self.detect(a), "b": self.detect(b)}})

    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Per image `boxes`, `scores` and `labels` found in RGB images `(B, 3, H, W)` in [0, 1]; in evaluation mode."""
        return self.network.detect(self.network.features(images), (images.shape[-2], images.shape[-1]))

    def predict_images(self, images: Tensor) -> list[dict[str, Tensor]]:
        """See `detect`."""
        return self.detect(images)

    def losses(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """The four terms of Faster R-CNN.

        Raises:
            DataError: data without boxes.
        """
        boxes, labels = boxes_of(batch)
        size = (batch["a"].shape[-2], batch["a"].shape[-1])
        return self.network.losses(output.extras["features"], size, [*boxes, *boxes], [*labels, *labels])

    def setup(self, stage: str) -> None:
        """Training starts from the named weights, unless a checkpoint has brought some."""
        if stage == "fit" and not self._loaded and not self.trainer.fast_dev_run:
            self._loaded = True
            self.network.load_pretrained()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint has all weights."""
        self._loaded = True
        super().on_load_checkpoint(checkpoint)

    # Average precision on each source ----------------------------------------------------------------------------------

    def validation_step(self, batch: FusionBatch, batch_idx: int) -> FusionOutput:  # type: ignore[override]
        """Detect on both images of every pair."""
        return self._evaluate(batch)

    def _evaluate(self, batch: FusionBatch) -> FusionOutput:
        output = self(batch["a"], batch["b"], batch["task"])
        boxes, labels = boxes_of(batch)
        for source, found in output.extras["detections"].items():
            self._scores_of(source).update(found, boxes, labels)
        return output

    def _finish_evaluation(self, stage: str) -> None:
        self.last_rows = []
        means = []
        for source in ("a", "b"):  # on every rank, also on one without images
            values = self._scores_of(source).compute()
            means.append(values["mAP"] or 0.0)
            named = {f"{stage}/{source}/{name}": value for name, value in values.items() if value is not None}
            self.log_dict(named, batch_size=1)
        self._found = {}
        self.log(f"{stage}/mAP", sum(means) / len(means), batch_size=1, prog_bar=True)

    def _scores_of(self, source: str) -> DetectionScores:
        if source not in self._found:
            self._found[source] = DetectionScores(self.class_names)
        return self._found[source]
