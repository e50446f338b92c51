"""Attention by a frozen detector: where it looks, whose boxes go first, and that it is no part of checkpoints."""

import pytest
import torch
from torch import nn

from fusion.errors import ConfigError
from fusion.models.moe_fusion import JudgeAttention


class Detector(nn.Module):
    """Finds one sure box in bright images, one unsure box everywhere."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def detect(self, images):
        assert images.shape[1] == 3
        boxes = torch.tensor([[2.0, 3, 8, 9], [0.0, 0, 20, 16]])
        return [{"boxes": boxes, "scores": torch.tensor([0.9 if image.mean() > 0.5 else 0.1, 0.2])} for image in images]


def test_boxes_of_both_sources_are_the_foreground():
    attention = JudgeAttention(Detector(), score=0.5)
    dark, bright = torch.zeros(2, 1, 16, 20), torch.ones(2, 1, 16, 20)
    for a, b in ((dark, bright), (bright, dark)):
        found = attention(a, b).map
        assert found.shape == (2, 1, 16, 20) and found.sum() == 2 * 36 and (found[..., 3:9, 2:8] == 1).all()
    assert attention(dark, dark).map.sum() == 0
    assert JudgeAttention(Detector(), score=0.15)(dark, dark).map.mean() == 1
    own = attention(bright, bright, [torch.tensor([[0.0, 0, 2, 2]]), torch.zeros(0, 4)]).map
    assert own[0].sum() == 4 and own[1].sum() == 0  # the pairs' own boxes go first
    assert not attention.state_dict() and not list(attention.parameters())
    with pytest.raises(ConfigError, match="model.attention.score=2"):
        JudgeAttention(Detector(), score=2)
