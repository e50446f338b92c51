"""The bottleneck convolutions that turn summed source features into fusion features."""

from typing import NamedTuple

from torch import Tensor, nn

from fusion.moe.routers import TaskWeights


class Weighted(NamedTuple):
    """Two streams `(B, h, w, C)`, their prompts `(B, h, w, 1)`, and `sum`, `p_a a + p_b b`."""

    a: Tensor
    b: Tensor
    p_a: Tensor
    p_b: Tensor
    sum: Tensor


class BottleneckConv(nn.Sequential):
    """1x1 down, 3x3, 1x1 up; no bias, norm or activation (TC-MoA Sec. 3.2, the prompt-driven fusion layer).

    Its local receptive field is what removes the checkerboard between patches (supplement Sec. 8, Fig. 12).

    Args:
        dim: channels in and out.
        reduction: factor between `dim` and the inner width.
    """

    def __init__(self, dim: int, reduction: int = 4) -> None:
        inner = dim // reduction
        super().__init__(
            nn.Conv2d(dim, inner, 1, bias=False),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.Conv2d(inner, dim, 1, bias=False),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """`(B, h, w, C)` to `(B, h, w, C)`."""
        return super().forward(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def merge(self, weighted: Weighted, embedding: Tensor, task: TaskWeights) -> Tensor:
        """Fused tokens `(B, h, w, C)` of two streams (Eq. 5).

        Args:
            weighted: the streams and their prompts.
            embedding: `s_a + s_b`, `(C,)`.
            task: index, or `(num_tasks,)` weights.
        """
        return self(weighted.sum + embedding)


class NoFusionConv(nn.Identity):
    """Nothing but the sum: supplement Fig. 12, without the fusion convolutions."""

    def merge(self, weighted: Weighted, embedding: Tensor, task: TaskWeights) -> Tensor:
        """See `BottleneckConv.merge`."""
        return weighted.sum + embedding
