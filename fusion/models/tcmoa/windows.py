"""Shifted-window execution of plain ViT blocks (TC-MoA, supplement Sec. 8, Fig. 11)."""

import torch
from einops import rearrange
from timm.models.vision_transformer import Block
from torch import Tensor, nn


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
    batch, h = tokens.shape[:2]
    if shift:
        tokens = torch.roll(tokens, (-shift, -shift), dims=(1, 2))
    x = rearrange(tokens, "b (i p) (j q) c -> (b i j) (p q) c", p=window, q=window)
    x = x + block.attn(block.norm1(x), attn_mask=bias)
    normed = block.norm2(x)  # the MLP works on single tokens, so window layout is as good as any
    x = x + block.mlp(normed)
    if branch is not None:
        x = x + branch(normed)
    tokens = rearrange(x, "(b i j) (p q) c -> b (i p) (j q) c", b=batch, i=h // window, p=window, q=window)
    if shift:
        tokens = torch.roll(tokens, (shift, shift), dims=(1, 2))
    return tokens
