"""Training of the detectors that fused images are tested with (MoE-Fusion Table 3, T-OAR Tables 1-3)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from fusion.data.batch import FusionBatch
from fusion.downstream.detection.scores import DetectionScores
from fusion.downstream.labels import boxes_of, check_classes
from fusion.downstream.training import TaskTraining
from fusion.layers.faster_rcnn import FasterRCNN
from fusion.models.output import FusionOutput


class DetectorTraining(TaskTraining):
    """A detector on the sources alike (both of a pair are training images with the same boxes), or on fused images.

    Args:
        class_names: in the order of the data set's labels.
        detector: arguments of `FasterRCNN`, without `num_classes`; or what makes another detector from `num_classes`,
            with methods as `FasterRCNN` has them: `features`, `losses`, `detect`, `load_pretrained`.
        images: see `TaskTraining`.
        training: see `TaskTraining`.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        detector: Mapping[str, Any] | Callable[..., nn.Module] | None = None,
        images: str = "both",
        **training: Any,
    ) -> None:
        super().__init__(images=images, **training)
        self.class_names = tuple(class_names)
        make = detector if callable(detector) else partial(FasterRCNN, **(detector or {}))
        self.network: Any = make(num_classes=len(self.class_names))
        self._found: dict[str, DetectionScores] = {}

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Refuse impossible detectors, before anything is built."""
        detector = config.get("detector") or {}
        if "_target_" not in detector:
            FasterRCNN.check_config({**detector, "num_classes": len(config["class_names"])})

    def setup(self, stage: str) -> None:
        """See `TaskTraining.setup`; the data must count their classes as the detector does."""
        datamodule = getattr(self.trainer, "datamodule", None)
        for part in ("train", "val") if stage == "fit" else ():
            check_classes(self.class_names, datamodule, part, "model.class_names")
        super().setup(stage)

    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Per image `boxes`, `scores` and `labels` found in RGB images `(B, 3, H, W)` in [0, 1]; in evaluation mode."""
        return self.network.detect(self.network.features(images), (images.shape[-2], images.shape[-1]))

    def predict_images(self, images: Tensor) -> list[dict[str, Tensor]]:  # type: ignore[override]
        """See `detect`."""
        return self.detect(images)

    def image_losses(self, images: Tensor, batch: FusionBatch) -> dict[str, Tensor]:
        """The detector's terms: four of Faster R-CNN, three of YOLO.

        Raises:
            DataError: data without boxes.
        """
        boxes, labels = boxes_of(batch)
        return self.network.losses(self.network.features(images), (images.shape[-2], images.shape[-1]), boxes, labels)

    def scores(self) -> DetectionScores:  # type: ignore[override]
        """Empty scores."""
        return DetectionScores(self.class_names)

    def load_pretrained(self) -> None:
        """The weights that were named."""
        self.network.load_pretrained()

    # Average precision, on each source by itself -----------------------------------------------------------------------

    @property
    def _sources(self) -> tuple[str, ...]:
        return ("a", "b") if self.images == "both" else (self.images,)

    def _evaluate(self, batch: FusionBatch) -> FusionOutput:
        output = self(batch["a"], batch["b"], batch["task"])
        for source, images in zip(self._sources, output.fused.chunk(len(self._sources)), strict=True):
            self._scores_of(source).add(self.detect(images), batch)
        return FusionOutput(output.fused[: len(batch["a"])])

    def _finish_evaluation(self, stage: str) -> None:
        self.last_rows = []
        means: dict[str, list[float]] = {"mAP": [], "mAP50-95": []}
        for source in self._sources:  # on every rank, also on one without images
            values = self._scores_of(source).compute()
            named = {f"{stage}/{source}/{name}": value for name, value in values.items() if value is not None}
            self.log_dict(named, batch_size=1)
            for name, collected in means.items():
                collected.append(values[name] or 0.0)
        self._found = {}
        for name, collected in means.items():
            self.log(f"{stage}/{name}", sum(collected) / len(collected), batch_size=1, prog_bar=name == "mAP")

    def _scores_of(self, source: str) -> DetectionScores:
        if source not in self._found:
            self._found[source] = self.scores()
        return self._found[source]
