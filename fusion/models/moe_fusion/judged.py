"""Attention by the boxes of a frozen detector, so that pairs without labels have a foreground too."""

from typing import Any

import torch
from torch import Tensor

from fusion.errors import ConfigError
from fusion.losses import box_mask
from fusion.models.moe_fusion.attention import Attention, AttentionMap, Boxes


class JudgeAttention(Attention):
    """One inside of boxes, zero outside: the pair's own where it has some, else what a frozen detector finds in both sources.

    Args:
        judge: detector with `detect`, images `(B, 3, H, W)` in [0, 1] to `boxes` and `scores` per image
            (`fusion.downstream.judges.CocoDetector`); it is no part of checkpoints. It sees luma, as the method does.
        score: least score of a box, in [0, 1].

    Raises:
        ConfigError: an impossible score.
    """

    def __init__(self, judge: Any, score: float = 0.3) -> None:
        super().__init__()
        if not 0 <= score <= 1:
            raise ConfigError(f"model.attention.score={score}: expected a number in [0, 1]")
        self._judge, self.score = [judge.eval().requires_grad_(False)], score  # hidden from state_dict

    def forward(self, a: Tensor, b: Tensor, boxes: Boxes | None = None) -> AttentionMap:
        """See `Attention`."""
        chosen = self._found(a, b) if boxes is None else boxes
        return AttentionMap(box_mask(chosen, (a.shape[-2], a.shape[-1]), a.device).to(a.dtype))

    @torch.no_grad()
    def _found(self, a: Tensor, b: Tensor) -> list[Tensor]:
        judge = self._judge[0].to(a.device)
        sides = [judge.detect(image.float().expand(-1, 3, -1, -1)) for image in (a, b)]
        return [
            torch.cat([found["boxes"][found["scores"] >= self.score] for found in pair])
            for pair in zip(*sides, strict=True)
        ]
