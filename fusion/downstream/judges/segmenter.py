"""MFNet's released segmenter as a frozen judge of fused images."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.data.batch import FusionBatch
from fusion.downstream.judges.mfnet import CLASSES, STRIDE, MFNet
from fusion.downstream.judges.weights import load_released
from fusion.downstream.labels import masks_of
from fusion.downstream.segmentation.module import SegmentationTraining
from fusion.downstream.segmentation.scores import IGNORE
from fusion.errors import ConfigError
from fusion.models.inputs import reflect_to_multiple

LUMA = (0.299, 0.587, 0.114)


class MFNetSegmenter(SegmentationTraining):
    """Sees a fused image twice: in colour, and its luma where the network expects the thermal image.

    So nothing but the fused image reaches it, and what a method lost of either source is lost to the judge.

    Args:
        weights: path of the released weights.
        class_names: 9 names in the order of the weights, which is MSRS's.
        balance: how far the loss weighs rare classes up: pixels of a class that n pixels of a batch have count by `n ** -balance`;
            0: all alike, 1: every class alike.

    Raises:
        ConfigError: a balance out of range.
        WeightsError: the weights cannot be used.
    """

    def __init__(
        self, weights: str | None = None, class_names: Sequence[str] = CLASSES, balance: float = 0.0, **base: Any
    ) -> None:
        if not 0 <= balance <= 1:
            raise ConfigError(f"judge.balance={balance}: expected a number between 0 and 1")
        super().__init__(class_names, _make, images="a", **base)
        self.balance = balance
        load_released(self.network, weights, "MFNet's segmenter")
        self.eval().requires_grad_(False)

    def image_losses(self, images: Tensor, batch: FusionBatch) -> dict[str, Tensor]:
        """Cross-entropy, rare classes weighed up by `balance`; "segmentation"."""
        if not self.balance:
            return super().image_losses(images, batch)
        mask = masks_of(batch)
        counts = torch.bincount(mask[mask != IGNORE].flatten(), minlength=len(self.class_names)).clamp_min(1)
        weights = counts.to(images) ** -self.balance
        return {"segmentation": F.cross_entropy(self.logits(images), mask, weights, ignore_index=IGNORE)}

    def logits(self, images: Tensor) -> Tensor:
        """Logits `(B, 9, H, W)` of RGB images `(B, 3, H, W)` in [0, 1]."""
        luma = (images * images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
        return self._run(images, luma)

    def segment_pair(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Classes `(B, H, W)` by what the network was trained on: colour and thermal, `(B, 3, H, W)` each."""
        with torch.inference_mode():
            return self._run(visible, infrared[:, :1]).argmax(1)

    def _run(self, colour: Tensor, thermal: Tensor) -> Tensor:
        height, width = colour.shape[-2:]
        padded = (reflect_to_multiple(image, STRIDE) for image in (colour, thermal))
        return self.network(*padded)[..., :height, :width]


def _make(num_classes: int) -> nn.Module:
    return MFNet(num_classes)
