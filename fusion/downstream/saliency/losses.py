"""The loss of CTDNet (released code)."""

import torch.nn.functional as F
from torch import Tensor

from fusion.downstream.saliency.network import SaliencyLogits


def edge_of(mask: Tensor) -> Tensor:
    """Morphological gradient of a map `(B, 1, H, W)` in [0, 1]: 3x3 dilation less erosion."""
    return F.max_pool2d(mask, 3, 1, 1) + F.max_pool2d(-mask, 3, 1, 1)


def region_loss(logits: Tensor, mask: Tensor, bce: float = 0.6) -> Tensor:
    """One less the soft intersection over union of each image, and cross-entropy; `(B, 1, H, W)` each, scalar."""
    probability = logits.sigmoid()
    intersection = (probability * mask).sum((1, 2, 3))
    union = (probability + mask).sum((1, 2, 3)) - intersection
    iou = (1 - (intersection + 1) / (union + 1)).mean()
    return iou + bce * F.binary_cross_entropy_with_logits(logits, mask)


def saliency_losses(logits: SaliencyLogits, mask: Tensor) -> dict[str, Tensor]:
    """Terms "saliency", "edge" and "inner"; the inner maps count 1/2, 1/4, 1/8 and 1/16.

    Args:
        logits: of `CTDNet`.
        mask: `(B, 1, H, W)` float, 1 on salient objects.
    """
    inner = sum(region_loss(x, mask) / 2 ** (i + 1) for i, x in enumerate(logits.inner))
    edge = F.binary_cross_entropy_with_logits(logits.edge, edge_of(mask))
    return {"saliency": region_loss(logits.saliency, mask), "edge": edge, "inner": inner}  # type: ignore[dict-item]
