"""Frozen networks of tasks, whose losses train a fusion method (T-OAR, stage two)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.downstream.labels import check_classes
from fusion.errors import ConfigError
from fusion.models.checkpoint import state_digest
from fusion.models.trained import TrainedModel
from fusion.parts import Part


class FrozenTask(Part):
    """A trained network that does not change, but lets gradients pass to the images.

    Args:
        module: the trained module.
        weight: of the loss.
    """

    def __init__(self, module: TrainedModel, weight: float = 1.0) -> None:
        self.module = module.eval().requires_grad_(False)
        self.weight = weight
        state = module.state_dict()
        self.digest = state_digest(state, state)

    def check_data(self, datamodule: Any) -> None:
        """Refuse training data that the network would misread."""

    def losses(self, images: Tensor, batch: FusionBatch) -> dict[str, Tensor]:
        """Weighted terms of fused images `(B, 3, H, W)`, around [0, 1], with the labels of their pairs."""
        self.module.to(images.device)
        module: Any = self.module
        return {name: self.weight * term for name, term in module.image_losses(images, batch).items()}


class DetectionTask(FrozenTask):
    """A detector's loss; Faster R-CNN's samples proposals as in its training.

    Args:
        ckpt_path: checkpoint or run folder of a detector.
        weight: of the loss (released T-OAR code: 2).
    """

    def __init__(self, ckpt_path: str | None = None, weight: float = 2.0) -> None:
        from fusion.downstream.detection import DetectorTraining
        from fusion.downstream.training import load_trained

        key = "model.task_networks.detection.ckpt_path"
        super().__init__(load_trained(ckpt_path, DetectorTraining, key, "toar/detector_m3fd"), weight)

    def check_data(self, datamodule: Any) -> None:
        """See `check_classes`."""
        module: Any = self.module
        check_classes(module.class_names, datamodule, "train", "model.task_networks.detection")


class JudgeTask(FrozenTask):
    """The loss of a released network (`fusion.downstream.judges`): FastestDet with boxes, MFNet's segmenter with maps.

    Args:
        judge: the network with its weights.
        weight: of the loss.
        terms: further factors by the loss's terms, such as FastestDet's "box", "objectness" and "class"; those left out: 1.
        from_sources: pairs without class maps get those that a segmenter sees in both sources, in place of a refusal.
    """

    def __init__(
        self,
        judge: TrainedModel,
        weight: float = 1.0,
        terms: Mapping[str, float] | None = None,
        from_sources: bool = False,
    ) -> None:
        super().__init__(judge, weight)
        self.terms = dict(terms or {})
        if from_sources and not hasattr(judge, "segment_pair"):
            raise ConfigError(
                "from_sources=true: only a segmenter labels what it is given; write boxes with action=label"
            )
        self.from_sources = from_sources

    def check_data(self, datamodule: Any) -> None:
        """Detectors: see `check_classes`."""
        module: Any = self.module
        if hasattr(module, "detect"):
            check_classes(module.class_names, datamodule, "train", "model.task_networks.detection.judge")

    def losses(self, images: Tensor, batch: FusionBatch) -> dict[str, Tensor]:
        """See `FrozenTask.losses`."""
        if self.from_sources and not isinstance(batch.get("mask"), Tensor):
            module: Any = self.module.to(images.device)
            batch = {**batch, "mask": module.segment_pair(batch["a"], batch["b"]).clone()}
        terms = super().losses(images, batch)
        if unknown := [name for name in self.terms if name not in terms]:
            raise ConfigError(f"terms.{unknown[0]}: the loss has none of this name; known: {', '.join(terms)}")
        return {name: self.terms.get(name, 1.0) * term for name, term in terms.items()}


class SegmentationTask(FrozenTask):
    """Cross-entropy of a segmentation network.

    Args:
        ckpt_path: checkpoint or run folder of `SegmentationTraining`.
        weight: of the loss.
    """

    def __init__(self, ckpt_path: str | None = None, weight: float = 1.0) -> None:
        from fusion.downstream.segmentation import SegmentationTraining
        from fusion.downstream.training import load_trained

        key = "model.task_networks.segmentation.ckpt_path"
        super().__init__(load_trained(ckpt_path, SegmentationTraining, key, "toar/segmenter_fmb"), weight)


class SaliencyTask(FrozenTask):
    """CTDNet's loss, of all six of its maps.

    Args:
        ckpt_path: checkpoint or run folder of `SaliencyTraining`.
        weight: of the loss.
    """

    def __init__(self, ckpt_path: str | None = None, weight: float = 1.0) -> None:
        from fusion.downstream.saliency import SaliencyTraining
        from fusion.downstream.training import load_trained

        key = "model.task_networks.saliency.ckpt_path"
        super().__init__(load_trained(ckpt_path, SaliencyTraining, key, "toar/saliency_vt5000"), weight)
