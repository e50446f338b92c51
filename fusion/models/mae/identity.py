"""A start for short pretraining: a backbone that passes a picture through before it has learned anything."""

import torch
from einops import rearrange
from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.layers.mae import MAE

OPPONENT_COLORS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
"""Luma and two chromas, orthogonal."""


@torch.no_grad()
def start_as_identity(backbone: MAE, gain: float = 0.2, room_for_positions: int = 32) -> None:
    """Initialise a backbone so that decoding what it encodes nearly gives the picture back.

    Blocks add nothing yet. Patches are written in a cosine basis into directions of the token that positions do not use,
    and read out of them again; where the width cannot hold everything, the finest chroma is left out. Positions are long
    against the patch, so that the layer norms between are nearly linear.

    Args:
        backbone: with encoder and decoder of one width.
        gain: length of a patch in its token.
        room_for_positions: directions that the position table spans.

    Raises:
        ConfigError: the two widths differ.
    """
    width, size = backbone.embed_dim, backbone.patch_size
    if width != backbone.decoder_embed_dim:
        raise ConfigError("model.identity_init needs model.backbone.embed_dim and decoder_embed_dim to be equal")
    for block in (*backbone.blocks, *backbone.decoder_blocks):
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.mlp.fc2.weight)
    table = backbone.pos_embed[0, 1:]
    used = torch.cat([torch.ones(1, width), table])  # layer norms take the mean, so ones are in use as well
    free = torch.linalg.svd(used)[2][room_for_positions:]
    functions = patch_functions(size)[: len(free)]
    free = free[: len(functions)]
    write = free.t() @ functions  # (width, 3 * size * size)
    backbone.patch_embed.proj.weight.copy_(gain * write.view_as(backbone.patch_embed.proj.weight))
    nn.init.eye_(backbone.decoder_embed.weight)
    spread = table.std(1, unbiased=False).mean()
    normed = table / spread + backbone.decoder_pos_embed[0, 1:]
    scale = spread * normed.std(1, unbiased=False).mean() / gain
    backbone.decoder_pred.weight.copy_(scale * rearrange(write.t(), "(c p q) d -> (p q c) d", c=3, p=size))


def patch_functions(size: int) -> Tensor:
    """Orthonormal basis of RGB patches, most needed first: all of luma, then chroma from coarse to fine.

    Returns:
        `(3 * size^2, 3 * size^2)`, a function a row, its pixels in the order color, row, column.
    """
    n = torch.arange(size)
    cosines = torch.cos(torch.pi * (n + 0.5) * n[:, None] / size)
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    colors = OPPONENT_COLORS / OPPONENT_COLORS.norm(dim=1, keepdim=True)
    functions = torch.einsum("kc,up,vq->kuvcpq", colors, cosines, cosines).reshape(3 * size**2, -1)
    frequency = (n[:, None] ** 2 + n**2).flatten()
    order = torch.cat([torch.full_like(frequency, -1), frequency, frequency]).argsort(stable=True)
    return functions[order]
