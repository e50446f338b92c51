"""Foreground attention maps that guide the local experts: from boxes, from saliency, or uniform.

The map that the paper learns with detectors is in `detectors.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import ConfigError, DataError
from fusion.losses import box_mask
from fusion.models.moe_fusion.saliency import frequency_tuned_saliency

Boxes = Sequence[Tensor]
SOURCES = ("both", "a", "b")


@dataclass
class AttentionMap:
    """An attention map and what its own losses need.

    Attributes:
        map: `(B, 1, H, W)` in [0, 1].
        detail: anything else, by name.
    """

    map: Tensor
    detail: dict[str, Any] = field(default_factory=dict)


class Attention(nn.Module, ABC):
    """Says where the foreground is."""

    learns_from_boxes: bool = False
    """Whether training needs boxes and labels."""
    looks_at_little: bool = True
    """Whether the map of a large picture takes little memory, so that it is made of the whole."""

    @abstractmethod
    def forward(self, a: Tensor, b: Tensor, boxes: Boxes | None = None) -> AttentionMap:
        """Attention of a pair.

        Args:
            a, b: visible and infrared luma `(B, 1, H, W)` in [0, 1].
            boxes: per image `(n, 4)` x1, y1, x2, y2 in pixels, where there are any.
        """

    def losses(self, attention: AttentionMap, boxes: Boxes, labels: Sequence[Tensor]) -> dict[str, Tensor]:
        """Weighted terms of the attention's own training, by name."""
        return {}

    def load_pretrained(self) -> None:
        """Load what training starts from, where something was named."""


class UniformAttention(Attention):
    """The same everywhere: foreground and background mixtures see the same share of every feature.

    Args:
        value: in [0, 1].
    """

    def __init__(self, value: float = 0.5) -> None:
        super().__init__()
        if not 0 <= value <= 1:
            raise ConfigError(f"model.attention.value={value}: expected a number in [0, 1]")
        self.value = value

    def forward(self, a: Tensor, b: Tensor, boxes: Boxes | None = None) -> AttentionMap:
        """See `Attention`."""
        return AttentionMap(torch.full_like(a, self.value))


class BoxAttention(Attention):
    """One inside of the boxes, zero outside; `fuse` then needs boxes too.

    Args:
        without_boxes: attention of pairs that come without boxes, in [0, 1]; None refuses them.
    """

    def __init__(self, without_boxes: float | None = None) -> None:
        super().__init__()
        self.without_boxes = without_boxes

    def forward(self, a: Tensor, b: Tensor, boxes: Boxes | None = None) -> AttentionMap:
        """See `Attention`.

        Raises:
            DataError: no boxes, and nothing said about that.
        """
        if boxes is not None:
            if len(boxes) != len(a):
                raise DataError(f"boxes of {len(boxes)} images for {len(a)} pairs: expected one tensor (n, 4) per pair")
            return AttentionMap(box_mask(boxes, (a.shape[-2], a.shape[-1]), a.device).to(a.dtype))
        if self.without_boxes is None:
            raise DataError(
                "model/attention=boxes needs boxes and these pairs have none: take data that has them, give "
                "fuse(..., boxes=[...]), set model.attention.without_boxes=0.5, or choose model/attention=saliency"
            )
        return AttentionMap(torch.full_like(a, self.without_boxes))


class SaliencyAttention(Attention):
    """Frequency-tuned saliency of the sources: for pairs without boxes, with nothing to learn.

    What stands out is what is brighter or darker than the mean of the picture it is in: a training crop's map is its own,
    not the crop of the whole picture's map.

    Args:
        source: "both" (the larger of the two, as the paper joins the maps of its two detectors), "a", or "b".
        sigma, full: see `frequency_tuned_saliency`.
    """

    def __init__(self, source: str = "both", sigma: float = 0.01, full: float | None = 0.4) -> None:
        super().__init__()
        if source not in SOURCES:
            raise ConfigError(f"model.attention.source={source} is not one of {', '.join(SOURCES)}")
        self.source, self.sigma, self.full = source, sigma, full

    def forward(self, a: Tensor, b: Tensor, boxes: Boxes | None = None) -> AttentionMap:
        """See `Attention`."""
        chosen = [image for image, name in ((a, "a"), (b, "b")) if self.source in (name, "both")]
        maps = [frequency_tuned_saliency(image, self.sigma, self.full) for image in chosen]
        return AttentionMap(torch.stack(maps).amax(0))
