"""MoE-Fusion's network: two dense encoders, local mixtures, and a mixture of decoders (Fig. 2b)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.models.moe_fusion.encoder import DenseEncoder
from fusion.models.moe_fusion.local import Gates, LocalPart, Mixed


class MoEFusionNetwork(nn.Module):
    """Fuses the luma of two sources under an attention map.

    Every convolution keeps the size and every gate looks at a fixed grid, so any size goes.

    Args:
        local: makes the local part from `channels`, N, K and `router`.
        decoder: makes the decoder from `in_channels`, N, K and `router`.
        router: makes a router from `dim`, N and K.
        num_experts: N of each mixture.
        top_k: K.
        channels: width of an encoder convolution.
        dense_relu: see `DenseEncoder`.
    """

    def __init__(
        self,
        local: Callable[..., LocalPart],
        decoder: Callable[..., nn.Module],
        router: Callable[..., nn.Module],
        num_experts: int = 4,
        top_k: int = 2,
        channels: int = 16,
        dense_relu: bool = False,
    ) -> None:
        super().__init__()
        self.encoder_a, self.encoder_b = DenseEncoder(channels, dense_relu), DenseEncoder(channels, dense_relu)
        mixture = {"num_experts": num_experts, "top_k": top_k, "router": router}
        self.local = local(channels=channels, **mixture)
        width = 2 * self.encoder_a.dense_channels + self.local.out_channels
        self.decoder = decoder(in_channels=width, **mixture)
        own: Any = self.decoder.sites
        self.sites: tuple[str, ...] = (*self.local.sites, *own)

    def forward(
        self, a: Tensor, b: Tensor, attention: Tensor, gates: Gates | None = None, show_experts: bool = False
    ) -> Mixed:
        """Fuse.

        Args:
            a, b: visible and infrared luma `(B, 1, H, W)` in [0, 1].
            attention: `(B, 1, H, W)` in [0, 1], where the foreground is.
            gates: fixed gates by site ("foreground", "background", "global").
            show_experts: report what every expert makes, chosen or not.

        Returns:
            `features` are the fused luma `(B, 1, H, W)`, not bounded; routings and experts of all sites.

        Raises:
            ConfigError: gates for a site that is not there.
        """
        gates = gates or {}
        if unknown := [site for site in gates if site not in self.sites]:
            raise ConfigError(f"gates: site '{unknown[0]}' is not one of {', '.join(self.sites) or 'none'}")
        features, local = self.features(a, b, attention, gates, show_experts)
        fused = self.decoder(features, gates, show_experts)
        return Mixed(fused.features, local.routings | fused.routings, local.experts | fused.experts)

    def features(
        self, a: Tensor, b: Tensor, attention: Tensor, gates: Gates, show_experts: bool = False
    ) -> tuple[Tensor, Mixed]:
        """What the decoder gets, `(B, C, H, W)`, and what the local part made; arguments as of `forward`."""
        last_a, dense_a = self.encoder_a(a)
        last_b, dense_b = self.encoder_b(b)
        local = self.local(last_a, last_b, attention, gates, show_experts)
        return torch.cat([dense_a, dense_b, local.features.to(dense_a.dtype)], dim=1), local
