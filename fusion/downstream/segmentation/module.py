"""Training of SegFormer, which says how well fused images can be segmented."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from fusion.data.batch import FusionBatch
from fusion.downstream.labels import masks_of
from fusion.downstream.segmentation.scores import IGNORE, SegmentationScores
from fusion.downstream.training import TaskTraining
from fusion.errors import DataError


class SegmentationTraining(TaskTraining):
    """A segmentation network on fused images.

    Args:
        class_names: in the order of the data set's labels.
        network: makes the network from `num_classes`.
        head_lr: learning rate of the head as a multiple of the trunk's.
        training: see `TaskTraining`.
    """

    def __init__(
        self, class_names: Sequence[str], network: Callable[..., nn.Module], head_lr: float = 10.0, **training: Any
    ) -> None:
        super().__init__(**training)
        self.class_names, self.head_lr = tuple(class_names), head_lr
        self.network = network(num_classes=len(self.class_names))

    def image_losses(self, images: Tensor, batch: FusionBatch) -> dict[str, Tensor]:
        """Cross-entropy of every pixel that counts; "segmentation".

        Raises:
            DataError: a class that the network does not have.
        """
        mask = masks_of(batch)
        highest = int(mask.masked_fill(mask == IGNORE, 0).max())
        if highest >= len(self.class_names):
            raise DataError(f"a pixel of class {highest} for {len(self.class_names)} classes: set model.class_names")
        logits = self.logits(images)
        total = F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="sum")
        return {"segmentation": total / (mask != IGNORE).sum().clamp_min(1)}

    def logits(self, images: Tensor) -> Tensor:
        """Logits `(B, K, H, W)` at the images' size."""
        return F.interpolate(self.network(images), images.shape[-2:], mode="bilinear", align_corners=False)

    def predict_images(self, images: Tensor) -> Tensor:
        """Classes `(B, H, W)` of the whole images."""
        return self.logits(images).argmax(1)

    def scores(self) -> SegmentationScores:
        """Empty scores."""
        return SegmentationScores(self.class_names)

    def load_pretrained(self) -> None:
        """The trunk's weights."""
        self.network.load_pretrained()  # type: ignore[operator]

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Trunk and head; norms and biases do not decay."""
        lr = getattr(self.optimizer, "keywords", {}).get("lr")
        groups = []
        for part, factor in (("trunk", 1.0), ("head", self.head_lr)):
            for group in param_groups_weight_decay(getattr(self.network, part), weight_decay):
                groups.append(group | ({} if lr is None else {"lr": lr * factor}))
        return groups
