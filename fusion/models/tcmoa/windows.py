"""Shifted-window execution of plain ViT blocks (TC-MoA, supplement Sec. 8, Fig. 11)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import RelPosBias
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fusion.layers.gradient_flow import require_grad_with

ALIGNMENT = 8
"""Elements that the strides of an attention bias are multiples of; PyTorch's memory-efficient attention copies others first."""


class WindowOrder:
    """Brings tokens from image order into windows, from one grid of windows into another, and back: one gather each.

    A cyclic roll, a cut into windows and the copies that go with them are one permutation of the tokens, and so is the way from
    the windows of one block to those of the next. Its indices are made once per forward pass and serve every block of it.

    Args:
        tokens: `(B, h, w, ...)`, whose sizes and device count.
        window: window side in tokens; divides h and w.
    """

    def __init__(self, tokens: Tensor, window: int) -> None:
        batch, height, width = self.shape = tokens.shape[:3]
        self.window = window
        self.place = torch.arange(batch * height * width, device=tokens.device)
        self._known: dict[tuple[int | None, int | None], Tensor] = {}

    def move(self, tokens: Tensor, source: int | None, target: int | None) -> Tensor:
        """Tokens in another order.

        Args:
            tokens: `(T, C)`, of the whole batch or of its first images.
            source, target: the shift of a grid of windows, or None for image order.

        Returns:
            `(T, C)`.
        """
        if source == target:
            return tokens
        if torch.compiler.is_exporting():  # indices of symbolic sizes would be computed anew whenever the graph runs
            return self._moved(tokens, source, target)
        forward, backward = (self._index(*way)[: len(tokens)] for way in ((source, target), (target, source)))
        if torch.is_grad_enabled() and tokens.requires_grad:
            return _Permute.apply(tokens, forward, backward)
        return tokens.index_select(0, forward)

    def _moved(self, tokens: Tensor, source: int | None, target: int | None) -> Tensor:
        """`move` by rolling and cutting."""
        _, height, width = self.shape
        sides = {"i": height // self.window, "j": width // self.window, "p": self.window, "q": self.window}
        if source is None:
            image = tokens.view(-1, height, width, tokens.shape[1])
        else:
            image = rearrange(tokens, "(b i j p q) c -> b (i p) (j q) c", **sides)
            image = image.roll((source, source), dims=(1, 2)) if source else image
        if target is None:
            return image.flatten(0, 2)
        image = image.roll((-target, -target), dims=(1, 2)) if target else image
        return rearrange(image, "b (i p) (j q) c -> (b i j p q) c", **sides)

    def _index(self, source: int | None, target: int | None) -> Tensor:
        """For every token in the order `target`, where it stands in the order `source`."""
        if (source, target) not in self._known:
            if source is None:
                assert target is not None
                shifted = self.place.view(self.shape).roll((-target, -target), dims=(1, 2))
                index = rearrange(shifted, "b (i p) (j q) -> (b i j p q)", p=self.window, q=self.window)
            elif target is None:
                batch, height, _ = self.shape
                rows, side = height // self.window, self.window
                image = rearrange(self.place, "(b i j p q) -> b (i p) (j q)", b=batch, i=rows, p=side, q=side)
                index = image.roll((source, source), dims=(1, 2)).flatten()
            else:
                index = self._index(source, None)[self._index(None, target)]
            self._known[source, target] = index
        return self._known[source, target]


class _Permute(torch.autograd.Function):
    """Rows in another order; the gradient goes back through the inverse, a gather too, where `index_select` would add up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        ctx.save_for_backward(forward, backward)
        return rows.index_select(0, forward)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        forward, backward = ctx.saved_tensors
        return _Permute.apply(gradient, backward, forward), None, None


def window_biases(positions: Sequence[RelPosBias], dtype: torch.dtype) -> list[Tensor]:
    """Attention biases of several tables of relative positions at once, in the type that attention computes in.

    Equal to `get_bias` of each. Offsets of a window are a sliding view of the table, so that nothing is looked up; rows are laid
    out `ALIGNMENT` elements apart, as the memory-efficient attention of CUDA wants them.

    Args:
        positions: tables of one window size and number of heads, without prefix tokens.
        dtype: of the result.

    Returns:
        One `(1, heads, window^2, window^2)` per table.
    """
    high, wide = positions[0].window_size
    tables = torch.stack([position.relative_position_bias_table for position in positions])
    tables = rearrange(tables, "n (u v) h -> n h u v", u=2 * high - 1).flip(2, 3)
    offsets = (
        tables.unfold(2, high, 1).unfold(3, wide, 1).flip(2, 3)
    )  # (n, heads, row, column of the query, of the key)
    # Cast last: gradients of an offset's many places then add up in float32.
    biases = F.pad(offsets.flatten(4, 5).flatten(2, 3).to(dtype), (0, -(high * wide) % ALIGNMENT))
    return list(biases[..., : high * wide].unsqueeze(1).unbind(0))


def run_block(
    block: Block,
    x: Tensor,
    bias: Tensor | None = None,
    branch: nn.Module | None = None,
    recompute_mlp: bool = False,
) -> Tensor:
    """Run one pre-norm ViT block on tokens in windows; residuals are added up in the type of `x`.

    Args:
        block: a `timm` ViT block.
        x: `(windows, window^2, C)`, in float32 or the type of autocast.
        bias: additive attention bias `(1, heads, window^2, window^2)`.
        branch: optional module parallel to the MLP, on the same normalised tokens (AdaptFormer).
        recompute_mlp: compute the MLP's inner features, the largest there are, again in the backward pass.

    Returns:
        `(windows, window^2, C)`.
    """
    x = require_grad_with(x, bias)  # frozen blocks before the first adapter site
    x = x + block.attn(layer_norm(block.norm1, x), attn_mask=bias)
    if recompute_mlp:
        return x + checkpoint(_mlp, block, x, branch, use_reentrant=False)
    return x + _mlp(block, x, branch)


def _mlp(block: Block, x: Tensor, branch: nn.Module | None) -> Tensor:
    normed = layer_norm(block.norm2, x)
    update = block.mlp(normed)
    return update if branch is None else update + branch(normed)


def layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """An `nn.LayerNorm` that stays in the type of `x`, of which autocast would make two float32 copies; sums inside are float32."""
    if not isinstance(norm, nn.LayerNorm) or x.dtype == norm.weight.dtype:
        return norm(x)
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)


def windowed_block(
    block: Block,
    tokens: Tensor,
    window: int,
    shift: int = 0,
    bias: Tensor | None = None,
    branch: nn.Module | None = None,
) -> Tensor:
    """Run one pre-norm ViT block with its attention confined to windows.

    Rolled windows join opposite borders and no mask separates them: the released weights were trained that way.

    Args:
        block: a `timm` ViT block.
        tokens: `(B, h, w, C)` with h and w multiples of `window`.
        window: window side in tokens.
        shift: cyclic roll before the attention, undone after the block.
        bias: additive attention bias `(1, heads, window^2, window^2)`.
        branch: optional module parallel to the MLP, on the same normalised tokens (AdaptFormer).

    Returns:
        `(B, h, w, C)`.
    """
    order = WindowOrder(tokens, window)
    x = order.move(tokens.flatten(0, 2), None, shift).view(-1, window**2, tokens.shape[3])
    x = run_block(block, x, bias, branch)
    return order.move(x.flatten(0, 1), shift, None).view(tokens.shape)
