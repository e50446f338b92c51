"""Masked autoencoding with the backbone that fusion models tune (He et al. 2022), for backbones of our own."""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from fusion.layers.mae import MAE
from fusion.layers.normalize import ImageNetNormalize


class MaskedAutoencoder(nn.Module):
    """Hides patches from the encoder and lets the decoder paint the picture from the rest.

    A fusion model shows the backbone one 14x14 window of a larger picture at a time, with that window's part of the enlarged
    position table. `max_zoom` shows it the same already in pretraining: every sample gets the positions of a window that lies
    anywhere in a picture up to that many windows wide.

    Args:
        backbone: encoder and decoder.
        max_zoom: widest picture in windows; 1 is MAE's own setting, one fixed window.
    """

    def __init__(self, backbone: MAE, max_zoom: float = 1.0) -> None:
        super().__init__()
        self.backbone, self.max_zoom = backbone, max_zoom
        self.normalize = ImageNetNormalize()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, backbone.decoder_embed_dim))
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, mask_ratio: float = 0.75) -> tuple[Tensor, Tensor]:
        """Reconstruct pictures of one window each.

        Args:
            images: `(B, 3, S, S)` RGB in [0, 1], S = grid * patch size.
            mask_ratio: share of patches the encoder does not see; 0 is plain autoencoding.

        Returns:
            The prediction, `(B, 3, S, S)` in [0, 1] scale but not clipped, and the mask `(B, 1, S, S)`, 1 where hidden.
        """
        backbone, batch = self.backbone, len(images)
        grid = backbone.grid
        views = self._positions(batch, images.device)
        tokens = backbone.embed_patches(self.normalize(images)).flatten(1, 2)
        tokens = tokens + sample_positions(backbone.pos_embed, views)
        order = torch.rand(batch, grid * grid, device=images.device).argsort(1)
        keep = max(1, round(grid * grid * (1 - mask_ratio)))
        kept = order[:, :keep, None]
        tokens = tokens.gather(1, kept.expand(-1, -1, tokens.shape[2]))
        for block in backbone.blocks:
            tokens = block(tokens)
        tokens = backbone.project_to_decoder(tokens)
        full = self.mask_token.to(tokens.dtype).repeat(batch, grid * grid, 1)
        tokens = full.scatter(1, kept.expand(-1, -1, tokens.shape[2]), tokens)
        tokens = tokens + sample_positions(backbone.decoder_pos_embed, views)
        for block in backbone.decoder_blocks:
            tokens = block(tokens)
        prediction = backbone.predict(rearrange(tokens, "b (h w) c -> b h w c", h=grid))
        hidden = torch.ones(batch, grid * grid, device=images.device).scatter(1, kept.squeeze(2), 0.0)
        size = backbone.patch_size
        mask = repeat(hidden, "b (h w) -> b 1 (h p) (w q)", h=grid, p=size, q=size)
        return self.normalize.inverse(prediction.float()), mask

    def _positions(self, batch: int, device: torch.device) -> Tensor:
        """Where each sample's tokens lie in the position table, `(B, grid, grid, 2)` as (x, y) in [-1, 1]."""
        steps = (
            torch.arange(self.backbone.grid, device=device) + 0.5
        ) / self.backbone.grid  # token centres in the window
        width = torch.ones(batch, 2, 1, device=device)  # of the window, in pictures
        if self.training and self.max_zoom > 1:
            width = 1 / torch.empty_like(width).uniform_(1, self.max_zoom)
        start = torch.rand_like(width) * (1 - width)
        x, y = ((start + steps * width) * 2 - 1).unbind(1)
        return torch.stack([x[:, None, :].expand(-1, len(steps), -1), y[:, :, None].expand(-1, -1, len(steps))], dim=-1)


def sample_positions(pos_embed: Tensor, views: Tensor) -> Tensor:
    """Bilinear look-up in a position table; at the centres of an enlarged grid it equals `resize_pos_embed`.

    Args:
        pos_embed: `(1, n * n + 1, C)`, class token first.
        views: `(B, h, w, 2)`, (x, y) in [-1, 1].

    Returns:
        `(B, h * w, C)`.
    """
    side = round((pos_embed.shape[1] - 1) ** 0.5)
    table = rearrange(pos_embed[:, 1:], "1 (h w) c -> 1 c h w", h=side)
    sampled = F.grid_sample(table.expand(len(views), -1, -1, -1), views, padding_mode="border", align_corners=False)
    return rearrange(sampled, "b c h w -> b (h w) c")
