"""The task-customized mixture of adapters (TC-MoA Sec. 3.2): prompts from routed experts, fusion driven by the prompts."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.moe.adapters.base import Adapter, PromptControl, SiteOutput
from fusion.moe.adapters.fusion_conv import BottleneckConv, NoFusionConv, Weighted
from fusion.moe.adapters.residual_conv import ResidualConv
from fusion.moe.dispatch import DISPATCHES, MIXES, dispatch
from fusion.moe.routers import TaskWeights, of_task
from fusion.moe.routing import Routing

SOURCE_EMBEDDINGS = ("learnable", "frozen_random", "none")
PROMPT_ORDERS = ("mean_sigmoid", "sigmoid_mean")
FUSION_LAYERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "conv": lambda dim, reduction, tasks: BottleneckConv(dim, reduction),
    "residual": ResidualConv,
    "identity": NoFusionConv,
}
"""Fusion layers by name, made from D, the reduction and the number of tasks."""


class MixtureSite(nn.Module):
    """One TC-MoA: two scalar prompts per token pair, and the fusion they drive (Eqs. 1-6).

    Under autocast the projection and the fusion layer compute in its type; gates, log-sum-exp, prompts and sums stay float32.

    Args:
        dim: channels D of the streams.
        recipe: the adapter whose settings it follows.
    """

    no_weight_decay = ("source_embedding",)

    def __init__(self, dim: int, recipe: "MixtureOfAdapters") -> None:
        super().__init__()
        inner = dim // recipe.reduction
        self.mix, self.mode, self.prompt_order = recipe.mix, recipe.dispatch, recipe.prompt_order
        self.norm1 = nn.LayerNorm(2 * dim)
        self.reduce = nn.Linear(2 * dim, inner, bias=False)
        self.norm2 = nn.LayerNorm(inner)
        nn.init.xavier_uniform_(self.reduce.weight)
        n, k, tasks = recipe.num_experts, recipe.top_k, recipe.num_tasks
        self.router = recipe.router(dim=inner, num_experts=n, top_k=k, num_tasks=tasks)
        self.experts = recipe.expert(dim=inner, num_experts=n)
        # The released code keeps these in a plain list: never trained, never saved. Registered, they are the paper's S.
        std = 0.0 if recipe.source_embedding == "none" else recipe.source_embedding_std
        embedding = torch.randn(tasks, 2, dim) * std
        self.source_embedding = nn.Parameter(embedding, requires_grad=recipe.source_embedding == "learnable")
        self.fuse: Any = FUSION_LAYERS[recipe.fusion_layer](dim, recipe.reduction, tasks)
        self.alpha = nn.Parameter(torch.tensor(0.5))

    @property
    def reach(self) -> int | None:
        """Tokens that it looks around itself: a 3x3 convolution, and the energy of 3x3 tokens of that; None: it does not say."""
        return 2 if self.experts.tokenwise else None

    def forward(self, a: Tensor, b: Tensor, task: TaskWeights, control: PromptControl) -> SiteOutput:
        """Mix the streams.

        Args:
            a, b: `(B, h, w, D)`.
            task: index, or `(num_tasks,)` weights.
            control: steering of the prompts.
        """
        reduced = self.reduce(self.norm1(torch.cat([a, b], dim=-1)))
        with torch.autocast(a.device.type, enabled=False):  # gates and log-sum-exp need float32
            prompts, routing = self._prompts(reduced.to(a.dtype), task)
        p_a, p_b = control(prompts).unsqueeze(-1).unbind(1)
        s_a, s_b = of_task(self.source_embedding, task)
        mixed = torch.addcmul(p_a * a, p_b, b)
        fused = self.fuse.merge(Weighted(a, b, p_a, p_b, mixed), s_a + s_b, task)  # Eq. 5
        fused = fused.to(a.dtype)
        return SiteOutput(
            a.lerp(fused, self.alpha), b.lerp(fused, self.alpha), prompts, routing
        )  # Eq. 6, alpha = 1 - lambda_f

    def _prompts(self, reduced: Tensor, task: TaskWeights) -> tuple[Tensor, Routing]:
        """Prompts `(B, 2, h, w)` and routing of reduced token pairs `(B, h, w, D / 4)`."""
        phi = self.norm2(reduced)  # Eq. 2
        routing = self.router(phi.flatten(0, 2), task)
        routing.shape = tuple(phi.shape[:3])
        halves = dispatch(self.experts, phi, routing.weights, self.mix, self.mode).chunk(2, dim=-1)
        if self.prompt_order == "mean_sigmoid":
            return torch.stack([half.mean(-1).sigmoid() for half in halves], dim=1), routing
        return torch.stack([half.sigmoid().mean(-1) for half in halves], dim=1), routing


class MixtureOfAdapters(Adapter):
    """The adapter of TC-MoA: a `MixtureSite` after every tau-th block.

    Args:
        reduction: D over the inner width (4).
        mix: how experts combine: "log_sum_exp" (released code) or "linear" (Eq. 4).
        prompt_order: "mean_sigmoid" (released code: sigmoid of the channel mean) or "sigmoid_mean" (Eq. 4).
        source_embedding: "learnable" (Eq. 5), "frozen_random" (what the released code amounts to), or "none".
        source_embedding_std: spread that the source embeddings start with.
        fusion_layer: "conv", "residual" (see `ResidualConv`; with embeddings that start at zero the network then starts as a plain
            mean of its sources), or "identity" (supplement Fig. 12, without the fusion convolutions).
        dispatch: "dense" or "sparse".
        parts: see `Adapter`.
    """

    def __init__(
        self,
        reduction: int = 4,
        mix: str = "log_sum_exp",
        prompt_order: str = "mean_sigmoid",
        source_embedding: str = "learnable",
        source_embedding_std: float = 0.02,
        fusion_layer: str = "conv",
        dispatch: str = "dense",
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        for key, value, known in (
            ("mix", mix, MIXES),
            ("prompt_order", prompt_order, PROMPT_ORDERS),
            ("source_embedding", source_embedding, SOURCE_EMBEDDINGS),
            ("fusion_layer", fusion_layer, FUSION_LAYERS),
            ("dispatch", dispatch, DISPATCHES),
        ):
            if value not in known:
                raise ConfigError(f"model.adapter.{key}={value} is not one of {', '.join(known)}")
        self.reduction, self.mix, self.prompt_order = reduction, mix, prompt_order
        self.source_embedding, self.source_embedding_std = source_embedding, source_embedding_std
        self.fusion_layer, self.dispatch = fusion_layer, dispatch

    def site(self, dim: int) -> nn.Module:
        """A `MixtureSite` of this width."""
        return MixtureSite(dim, self)

    def band_recipe(self) -> "MixtureOfAdapters":
        """Itself: see `fusion.models.tcmoa.band.BandSite`."""
        return self


class SingleAdapter(MixtureOfAdapters):
    """One adapter instead of a mixture ("SA" of Table 4): N = K = 1, whatever the model says, and nothing to route."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"num_experts": 1, "top_k": 1})
