"""The masked-autoencoder ViT (He et al. 2022) as a backbone: encoder, pixel decoder, and nothing of what is done with them."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from einops import rearrange
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fusion.layers.pos_embed import resize_pos_embed, sincos_pos_embed_2d


def in_float32(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run a method of a module in float32 under autocast.

    For the few layers that a picture passes without a residual path around them: bfloat16 would keep it to two or three gray
    levels only.
    """

    @wraps(method)
    def run(self: nn.Module, tokens: Tensor, *args: Any) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            return method(self, tokens.float(), *args)

    return run


class MAE(nn.Module):
    """MAE encoder and decoder with the parameter names of the released checkpoints, so that they load by key.

    `cls_token` is there because the checkpoints hold it; dense use of the backbone leaves it out. The mask token belongs
    to pretraining and is not here.

    Args:
        patch_size: pixels per patch side.
        grid: tokens per side at pretraining; the position tables are resized from it.
        embed_dim, depth, num_heads: encoder.
        decoder_embed_dim, decoder_depth, decoder_num_heads: decoder.
        mlp_ratio: hidden width of the MLPs over the width of their block.
        weights: name or path of the weights that `fusion.hub` loads into it; None leaves it random.
    """

    def __init__(
        self,
        patch_size: int = 16,
        grid: int = 14,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        mlp_ratio: float = 4.0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.patch_size, self.grid, self.weights = patch_size, grid, weights
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.decoder_embed_dim, self.decoder_num_heads = decoder_embed_dim, decoder_num_heads
        layer_norm: Any = partial(nn.LayerNorm, eps=1e-6)
        make_block = partial(Block, mlp_ratio=mlp_ratio, qkv_bias=True, norm_layer=layer_norm)

        self.patch_embed = PatchEmbed(None, patch_size, 3, embed_dim, flatten=False, strict_img_size=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim), requires_grad=False)
        self.pos_embed = nn.Parameter(sincos_pos_embed_2d(embed_dim, grid), requires_grad=False)
        self.blocks = nn.ModuleList(make_block(embed_dim, num_heads) for _ in range(depth))
        self.norm = layer_norm(embed_dim)

        self.decoder_embed = nn.Linear(embed_dim, decoder_embed_dim)
        self.decoder_pos_embed = nn.Parameter(sincos_pos_embed_2d(decoder_embed_dim, grid), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            make_block(decoder_embed_dim, decoder_num_heads) for _ in range(decoder_depth)
        )
        self.decoder_norm = layer_norm(decoder_embed_dim)
        self.decoder_pred = nn.Linear(decoder_embed_dim, patch_size**2 * 3)
        self._init_weights()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(self.embed_dim, -1))
        nn.init.zeros_(self.patch_embed.proj.get_parameter("bias"))
        nn.init.normal_(self.cls_token, std=0.02)

    def embed(self, images: Tensor, transposed_pos: bool = False) -> Tensor:
        """Patch tokens with their positions.

        Args:
            images: `(B, 3, H, W)`, ImageNet-normalised, H and W multiples of the patch size.
            transposed_pos: see `resize_pos_embed`.

        Returns:
            `(B, h, w, embed_dim)`.
        """
        tokens = self.embed_patches(images)
        return tokens + resize_pos_embed(self.pos_embed, tokens.shape[1:3], transposed_pos)

    def embed_for_decoder(self, tokens: Tensor, transposed_pos: bool = False) -> Tensor:
        """Encoder output to decoder input: norm, projection, decoder positions. `(B, h, w, C)` to `(B, h, w, C')`."""
        tokens = self.project_to_decoder(tokens)
        return tokens + resize_pos_embed(self.decoder_pos_embed, tokens.shape[1:3], transposed_pos)

    @in_float32
    def embed_patches(self, images: Tensor) -> Tensor:
        """Patch tokens without positions, `(B, 3, H, W)` to `(B, h, w, embed_dim)`."""
        return self.patch_embed.proj(images).permute(0, 2, 3, 1)

    @in_float32
    def project_to_decoder(self, tokens: Tensor) -> Tensor:
        """Norm and projection of the encoder's output, `(..., C)` to `(..., C')`."""
        return self.decoder_embed(self.norm(tokens))

    @in_float32
    def predict(self, tokens: Tensor) -> Tensor:
        """Decoder tokens `(B, h, w, C')` to ImageNet-normalised pixels `(B, 3, H, W)`."""
        patches = self.decoder_pred(self.decoder_norm(tokens))
        return rearrange(patches, "b h w (p q c) -> b c (h p) (w q)", p=self.patch_size, q=self.patch_size)
