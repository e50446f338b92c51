"""Layer normalisation of a whole picture that hands its statistics on (DehazeFormer, Song et al. 2023)."""

import torch
from torch import Tensor, nn


class RevisedLayerNorm(nn.Module):
    """Normalises over channels and pixels together and returns what the residual branch needs to undo it.

    Args:
        dim: channels.
        eps: added to the variance.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        # Affine maps of one number to a factor and an offset per channel.
        self.rescale_weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=0.02))
        self.rescale_bias = nn.Parameter(torch.ones(dim))
        self.rebias_weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=0.02))
        self.rebias_bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise.

        Args:
            x: `(B, C, H, W)`.

        Returns:
            Normalised `x`; factor and offset, both `(B, C, 1, 1)`, for whatever is computed from it.
        """
        variance, mean = torch.var_mean(x.float(), dim=(1, 2, 3), correction=0)
        std = (variance + self.eps).sqrt()
        normed = (x - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)
        normed = normed * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)
        rescale, rebias = self.affine(mean, std)
        return normed, rescale[..., None, None], rebias[..., None, None]

    def affine(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and offset per channel, both `(B, C)`, of statistics `(B,)`."""
        rescale = std[:, None] * self.rescale_weight + self.rescale_bias
        return rescale, mean[:, None] * self.rebias_weight + self.rebias_bias
