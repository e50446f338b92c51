"""Routing whole images: one decision per sample, made from a feature map, and experts that are convolutional networks."""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.moe.dispatch import combine
from fusion.moe.routing import Routing

RESAMPLES = ("bilinear", "area")


class ImageRouter(nn.Module):
    """Resamples a feature map to a fixed grid, flattens it, and lets a router of tokens decide on the whole image.

    MoE-Fusion Eqs. 1 and 3; the fixed grid makes the gate work at any image size. "bilinear" with aligned corners onto
    120x160 (local) or 60x80 (global) is what the released code computes at its one size of 480x640.

    Args:
        channels: C of the feature map.
        grid: rows and columns of the gate's view.
        num_experts: N.
        top_k: K.
        router: makes a router from `dim`, `num_experts` and `top_k`.
        resample: "bilinear" (reads single points) or "area" (adaptive average pooling).
    """

    def __init__(
        self,
        channels: int,
        grid: Sequence[int],
        num_experts: int,
        top_k: int,
        router: Callable[..., nn.Module],
        resample: str = "bilinear",
    ) -> None:
        super().__init__()
        check_grid(grid, resample)
        self.grid, self.resample, self.num_experts = (int(grid[0]), int(grid[1])), resample, num_experts
        self.router = router(dim=channels * self.grid[0] * self.grid[1], num_experts=num_experts, top_k=top_k)

    def forward(self, features: Tensor, gates: Sequence[float] | None = None) -> Routing:
        """Route `(B, C, H, W)` features, in float32 from the resampled view on.

        Args:
            features: what the gate looks at.
            gates: N numbers from 0 that replace the router's decision for every image; zero leaves an expert out.
        """
        if gates is not None:
            return self._fixed(gates, features)
        with torch.autocast(features.device.type, enabled=False):
            routing = self.router(self.view(features).float().flatten(1))
        routing.shape = (len(features),)
        return routing

    def view(self, features: Tensor) -> Tensor:
        """What the gate sees: `(B, C, H, W)` to `(B, C, *grid)`."""
        if self.resample == "area":
            return F.adaptive_avg_pool2d(features, self.grid)
        return F.interpolate(features, self.grid, mode="bilinear", align_corners=True)

    def _fixed(self, gates: Sequence[float], features: Tensor) -> Routing:
        if len(gates) != self.num_experts or min(gates) < 0 or not max(gates) > 0:
            raise ConfigError(f"gates={list(gates)}: expected {self.num_experts} numbers from 0, not all of them 0")
        weights = features.new_tensor(list(gates), dtype=torch.float32).expand(len(features), -1)
        return Routing(weights, weights.sum(0), (weights > 0).sum(0).float(), shape=(len(features),))


def check_grid(grid: Sequence[int], resample: str) -> None:
    """Refuse grids and ways of resampling that cannot be.

    Raises:
        ConfigError: names what was expected.
    """
    if len(grid) != 2 or min(grid) < 1:
        raise ConfigError(f"grid={list(grid)}: expected rows and columns of the gate's view, such as [120, 160]")
    if resample not in RESAMPLES:
        raise ConfigError(f"resample={resample} is not one of {', '.join(RESAMPLES)}")


def dispatch_images(
    experts: Iterable[nn.Module], inputs: Sequence[Tensor], weights: Tensor, mix: str = "log_sum_exp"
) -> Tensor:
    """Run every expert on the images that route to it, and combine by the gates, in float32.

    Each expert is a whole network, so one host synchronisation to read the gates pays off. In training an
    expert that nobody chose runs on an empty batch: it then has a gradient of zero, as in the released code, and not none.

    Args:
        experts: N networks `(b, C, H, W)` to `(b, D, H, W)`.
        inputs: per expert its `(B, C, H, W)` input; they may be the same tensor.
        weights: `(B, N)` gates; zero leaves an expert out.
        mix: see `fusion.moe.dispatch.combine`.

    Returns:
        `(B, D, H, W)`.
    """
    if (
        torch.compiler.is_exporting()
    ):  # a graph has no branches: every expert runs, those with a gate of zero add nothing
        return combine(apply_all(experts, inputs).float(), weights, mix)
    used = (weights.detach() > 0).cpu()
    batch, slots = len(used), int(used.sum(1).max())
    slot = used.cumsum(1) - 1  # an image's first expert goes to slot 0, its second to slot 1
    # Pictures are cut apart once per tensor: every expert's gradient then reaches its own pictures only, while indexing
    # would fill and add up a tensor of the whole batch per expert.
    pictures = {id(features): features.split(1) for features in inputs}
    outputs: Tensor | None = None
    for index, (expert, features) in enumerate(zip(experts, inputs, strict=True)):
        rows = used[:, index].nonzero().squeeze(1)
        if not len(rows) and not torch.is_grad_enabled():
            continue
        chosen = [pictures[id(features)][row] for row in rows.tolist()] or [features[:0]]
        output = expert(features if len(rows) == batch else torch.cat(chosen)).float()
        if outputs is None:
            outputs = output.new_zeros(slots, batch, *output.shape[1:])
        outputs[slot[rows, index].to(output.device), rows.to(output.device)] = output
    assert outputs is not None, "every image uses an expert"
    order = used.long().argsort(dim=1, descending=True, stable=True)[:, :slots]
    return combine(outputs, weights.gather(1, order.to(weights.device)), mix)


def apply_all(experts: Iterable[nn.Module], inputs: Sequence[Tensor]) -> Tensor:
    """What every expert makes of every image, chosen or not: `(N, B, D, H, W)`, to look at."""
    return torch.stack([expert(features) for expert, features in zip(experts, inputs, strict=True)])
