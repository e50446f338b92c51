"""The decoder: a mixture of global experts, or a single one."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fusion.models.moe_fusion.image_routing import ImageRouter, apply_all, check_grid, dispatch_images
from fusion.models.moe_fusion.local import Gates, Mixed


class Float32Conv(nn.Conv2d):
    """A convolution that leaves autocast: in bfloat16, bright pixels of an image would be a gray level of 1/256 apart."""

    def forward(self, input: Tensor) -> Tensor:
        """See `nn.Conv2d`."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def global_expert(in_channels: int, widths: Sequence[int]) -> nn.Sequential:
    """Four convolutions from the fused features to one image, ReLU between, nothing after (Sec. 3.3)."""
    widths = [in_channels, *widths]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, Float32Conv(widths[-1], 1, 3, padding=1))


class MixtureOfGlobalExperts(nn.Module):
    """Mixture of global experts (MoGE, Sec. 3.3): each decodes the image from all features.

    Args:
        in_channels: channels of the fused features.
        num_experts: N.
        top_k: K.
        router: makes the gate's router.
        widths: channels between an expert's convolutions.
        grid: height and width that the gate sees.
        resample: onto the grid, see `fusion.models.moe_fusion.image_routing`.
        mix: how experts combine, see `fusion.moe.dispatch`.
    """

    sites: tuple[str, ...] = ("global",)

    def __init__(
        self,
        in_channels: int,
        num_experts: int,
        top_k: int,
        router: Callable[..., nn.Module],
        widths: Sequence[int] = (64, 32, 16),
        grid: Sequence[int] = (60, 80),
        resample: str = "bilinear",
        mix: str = "log_sum_exp",
    ) -> None:
        super().__init__()
        self.mix = mix
        self.gate = ImageRouter(in_channels, grid, num_experts, top_k, router, resample)
        self.experts = nn.ModuleList(global_expert(in_channels, widths) for _ in range(num_experts))

    @staticmethod
    def check_config(config: Mapping[str, object]) -> None:
        """Refuse impossible grids."""
        check_grid(config.get("grid", (60, 80)), str(config.get("resample", "bilinear")))  # type: ignore[arg-type]

    def forward(self, features: Tensor, gates: Gates, show_experts: bool = False) -> Mixed:
        """Decode `(B, C, H, W)` features to `(B, 1, H, W)`, not bounded."""
        routing = self.gate(features, gates.get("global"))
        inputs = [features] * len(self.experts)
        mixed = Mixed(dispatch_images(self.experts, inputs, routing.weights, self.mix), {"global": routing})
        if show_experts:
            mixed.experts["global"] = apply_all(self.experts, inputs)
        return mixed


class SingleDecoder(nn.Module):
    """One decoder with the structure of a global expert (Table 2, w/o MoGE).

    Args:
        in_channels: channels of the fused features.
        num_experts, top_k, router: not needed.
        widths: channels between its convolutions.
    """

    sites: tuple[str, ...] = ()

    def __init__(
        self,
        in_channels: int,
        num_experts: int = 1,
        top_k: int = 1,
        router: Callable[..., nn.Module] | None = None,
        widths: Sequence[int] = (64, 32, 16),
    ) -> None:
        super().__init__()
        self.expert = global_expert(in_channels, widths)

    def forward(self, features: Tensor, gates: Gates, show_experts: bool = False) -> Mixed:
        """Decode `(B, C, H, W)` features to `(B, 1, H, W)`, not bounded."""
        return Mixed(self.expert(features).float())
