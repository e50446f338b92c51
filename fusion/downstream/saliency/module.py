"""Training of CTDNet, which says how well salient objects are found in fused images."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.downstream.labels import masks_of
from fusion.downstream.saliency.losses import saliency_losses
from fusion.downstream.saliency.network import CTDNet
from fusion.downstream.saliency.scores import SaliencyScores
from fusion.downstream.training import TaskTraining, faster_part


class SaliencyTraining(TaskTraining):
    """CTDNet-18 on fused images.

    Args:
        network: the network.
        sizes: sides in pixels that batches are resized to, one drawn per batch; empty: as they come.
        size: side that images are resized to when they are looked at; None: as they come.
        trunk_lr: learning rate of the trunk as a share of the decoder's.
        training: see `TaskTraining`.
    """

    network: CTDNet

    def __init__(
        self,
        network: CTDNet,
        sizes: Sequence[int] = (224, 256, 288, 320, 352),
        size: int | None = 352,
        trunk_lr: float = 0.1,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        self.network = network
        self.sizes, self.size, self.trunk_lr = tuple(sizes), size, trunk_lr

    def image_losses(self, images: Tensor, batch: FusionBatch) -> dict[str, Tensor]:
        """See `saliency_losses`; resized to one of the training sizes."""
        mask = (masks_of(batch) == 1)[:, None].to(images)
        if self.sizes:
            side = self.sizes[int(torch.randint(len(self.sizes), ()))]
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
            mask = F.interpolate(mask, (side, side), mode="nearest")
        return saliency_losses(self.network(images), mask)

    def predict_images(self, images: Tensor) -> Tensor:
        """Saliency maps `(B, H, W)` in [0, 1] at the images' size."""
        resized = images
        if self.size is not None:
            resized = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)
        logits = self.network(resized).saliency
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=True)[:, 0].sigmoid()

    def scores(self) -> SaliencyScores:
        """Empty scores."""
        return SaliencyScores()

    def load_pretrained(self) -> None:
        """The trunk's weights."""
        self.network.load_pretrained()

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Trunk and decoder, as the released code groups them."""
        trunk = [*self.network.stem.parameters(), *self.network.stages.parameters()]
        ids = {id(parameter) for parameter in trunk}
        decoder = [parameter for parameter in self.network.parameters() if id(parameter) not in ids]
        return faster_part({"trunk": trunk, "decoder": decoder}, {"trunk": self.trunk_lr}, self.optimizer)
