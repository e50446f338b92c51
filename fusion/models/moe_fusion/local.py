"""Local features: mixtures of experts on foreground and background, and what the ablations put in their place."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fusion.models.moe_fusion.image_routing import ImageRouter, apply_all, check_grid, dispatch_images
from fusion.moe.routing import Routing

Gates = Mapping[str, Sequence[float]]
"""Fixed gates by site, in place of what the routers decide."""


@dataclass
class Mixed:
    """What a part of the network made, and how it came about.

    Attributes:
        features: `(B, C, H, W)`.
        routings: by site.
        experts: by site, every expert's output `(N, B, C, H, W)`, where it was asked for.
    """

    features: Tensor
    routings: dict[str, Routing] = field(default_factory=dict)
    experts: dict[str, Tensor] = field(default_factory=dict)


class LocalPart(nn.Module, ABC):
    """Makes local features of both encoders' last convolutions and the attention map.

    `out_channels` says how many; `sites` names its routers.
    """

    out_channels: int
    sites: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, a: Tensor, b: Tensor, attention: Tensor, gates: Gates, show_experts: bool = False) -> Mixed:
        """Local features.

        Args:
            a, b: `(B, C, H, W)` of the visible and the infrared encoder.
            attention: `(B, 1, H, W)` in [0, 1].
            gates: fixed gates by site.
            show_experts: report what every expert makes, chosen or not.
        """


class LocalMixture(nn.Module):
    """Mixture of local experts (MoLE, Sec. 3.2): half of the experts see the visible, half the infrared features.

    The gate sees both. It may well choose two experts of one modality; the other is then absent from this mixture.
    """

    def __init__(
        self,
        channels: int,
        num_experts: int,
        top_k: int,
        router: Callable[..., nn.Module],
        hidden: int,
        grid: Sequence[int],
        resample: str,
        mix: str,
    ) -> None:
        super().__init__()
        self.mix = mix
        self.gate = ImageRouter(2 * channels, grid, num_experts, top_k, router, resample)
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, channels, 3, padding=1)
            )
            for _ in range(num_experts)
        )

    def forward(
        self, a: Tensor, b: Tensor, gates: Sequence[float] | None, show_experts: bool
    ) -> tuple[Tensor, Routing, Tensor | None]:
        """Mixed `(B, C, H, W)` features, the routing, and what every expert makes, `(N, B, C, H, W)` or None."""
        routing = self.gate(torch.cat([a, b], dim=1), gates)
        half = len(self.experts) // 2
        inputs = [a] * half + [b] * half
        features = dispatch_images(self.experts, inputs, routing.weights, self.mix)
        return features, routing, apply_all(self.experts, inputs) if show_experts else None


class MixtureOfLocalExperts(LocalPart):
    """A mixture on the attended features (foreground), and one on the rest (background).

    Args:
        channels: C of the encoders' last convolutions.
        num_experts: N of each mixture, even.
        top_k: K.
        router: makes the gates' routers.
        hidden: inner channels of an expert.
        background: False leaves the background mixture out, as Sec. 3.2 reads; Fig. 6 and the released code have it.
        grid: height and width that the gates see.
        resample: onto the grid, see `fusion.models.moe_fusion.image_routing`.
        mix: how experts combine, see `fusion.moe.dispatch`.
    """

    def __init__(
        self,
        channels: int,
        num_experts: int,
        top_k: int,
        router: Callable[..., nn.Module],
        hidden: int = 8,
        background: bool = True,
        grid: Sequence[int] = (120, 160),
        resample: str = "bilinear",
        mix: str = "log_sum_exp",
    ) -> None:
        super().__init__()

        def mixture() -> LocalMixture:
            return LocalMixture(channels, num_experts, top_k, router, hidden, grid, resample, mix)

        self.foreground = mixture()
        self.background = mixture() if background else None
        self.sites = ("foreground", "background") if background else ("foreground",)
        self.out_channels = channels * len(self.sites)

    @staticmethod
    def check_config(config: Mapping[str, object]) -> None:
        """Refuse impossible grids."""
        check_grid(config.get("grid", (120, 160)), str(config.get("resample", "bilinear")))  # type: ignore[arg-type]

    def forward(self, a: Tensor, b: Tensor, attention: Tensor, gates: Gates, show_experts: bool = False) -> Mixed:
        """See `LocalPart`."""
        mixed = Mixed(a)
        parts = []
        for site in self.sites:
            share = attention if site == "foreground" else 1 - attention
            features, routing, experts = getattr(self, site)(a * share, b * share, gates.get(site), show_experts)
            parts.append(features)
            mixed.routings[site] = routing
            if experts is not None:
                mixed.experts[site] = experts
        mixed.features = torch.cat(parts, dim=1)
        return mixed


class AttentionLocal(LocalPart):
    """Att-Local (Table 2): attended and remaining features of both sources, joined by a 1x1 convolution, no experts.

    Args:
        channels: C of the encoders' last convolutions.
        num_experts, top_k, router: not needed.
    """

    def __init__(
        self, channels: int, num_experts: int = 1, top_k: int = 1, router: Callable[..., nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.out_channels = 2 * channels
        self.join = nn.Conv2d(4 * channels, self.out_channels, 1)

    def forward(self, a: Tensor, b: Tensor, attention: Tensor, gates: Gates, show_experts: bool = False) -> Mixed:
        """See `LocalPart`."""
        rest = 1 - attention
        return Mixed(self.join(torch.cat([a * attention, b * attention, a * rest, b * rest], dim=1)))


class NoLocal(LocalPart):
    """Without local features (Table 2, w/o MoLE): the decoder gets the dense features alone.

    Args:
        channels, num_experts, top_k, router: not needed.
    """

    out_channels = 0

    def __init__(
        self, channels: int, num_experts: int = 1, top_k: int = 1, router: Callable[..., nn.Module] | None = None
    ) -> None:
        super().__init__()

    def forward(self, a: Tensor, b: Tensor, attention: Tensor, gates: Gates, show_experts: bool = False) -> Mixed:
        """See `LocalPart`; `features` has no channels."""
        return Mixed(a[:, :0])
