"""Routers (gating networks): which experts serve which token. All take `(T, D)` tokens and return a `Routing`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.moe.routing import Routing

TaskWeights = int | Tensor
"""A task's index, also as an int64 scalar, or `(num_tasks,)` weights that mix the routers of several tasks.

A compiled network would be compiled again for every integer, but not for every value of a scalar tensor."""


def of_task(bank: Tensor, task: TaskWeights) -> Tensor:
    """A task's entry of `(num_tasks, ...)` parameters, or a weighted mean of several tasks' entries."""
    if isinstance(task, int):
        return bank[task]
    if is_index(task):
        return bank.index_select(0, task.view(1)).squeeze(0)
    return torch.tensordot(task.to(bank), bank, dims=1)


def is_index(task: TaskWeights) -> bool:
    """Whether it stands for one task, rather than for a mix of several."""
    return isinstance(task, int) or not task.is_floating_point()


def load_probability(clean: Tensor, noisy: Tensor, std: Tensor, top_values: Tensor, k: int) -> Tensor:
    """Probability of each expert to be among the top k were only its own noise drawn anew (Shazeer et al. 2017, Eq. 9).

    Args:
        clean, noisy, std: `(T, N)` logits without noise, with it, and the noise's standard deviation.
        top_values: `(T, k + 1)` largest noisy logits, sorted.
        k: experts per token, below N.

    Returns:
        `(T, N)` in [0, 1].
    """
    if_in, if_out = top_values[:, k : k + 1], top_values[:, k - 1 : k]
    threshold = torch.where(noisy > if_in, if_in, if_out)
    return torch.special.ndtr((clean - threshold) / std)


class NoisyTopKRouter(nn.Module):
    """Noisy top-k gating with one pair of gate matrices per task (TC-MoA Eq. 3; Shazeer et al. 2017).

    Args:
        dim: channels D of a token.
        num_experts: N.
        top_k: K, experts per token.
        num_tasks: gate matrices in the bank.
        noise: draw noise in training.
        noise_eps: added to the softplus of the noise's standard deviation (the released code has 0.1, the paper nothing).
        threshold: gates up to this become 0 without renormalisation (1e-4 in the released code).
        task_specific: False gives one router for all tasks.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        top_k: int,
        num_tasks: int = 1,
        noise: bool = True,
        noise_eps: float = 0.1,
        threshold: float = 1e-4,
        task_specific: bool = True,
    ) -> None:
        super().__init__()
        self.num_experts, self.top_k, self.num_tasks = num_experts, top_k, num_tasks
        self.noise, self.noise_eps, self.threshold, self.task_specific = noise, noise_eps, threshold, task_specific
        banks = num_tasks if task_specific else 1
        self.w_gate = nn.Parameter(torch.zeros(banks, dim, num_experts))
        self.w_noise = nn.Parameter(torch.zeros(banks, dim, num_experts), requires_grad=noise)

    def forward(self, tokens: Tensor, task: TaskWeights = 0) -> Routing:
        """Route `(T, D)` tokens. A vector of task weights mixes the tasks' gates, each already top-k-softmaxed."""
        if not self.task_specific:
            return self._route(tokens, 0)
        if isinstance(task, int) or is_index(task):
            return self._route(tokens, task)
        return mix_routings([(weight, self._route(tokens, t)) for t, weight in enumerate(task.tolist()) if weight])

    def _route(self, tokens: Tensor, task: TaskWeights) -> Routing:
        clean = tokens @ of_task(self.w_gate, task)
        noisy = clean
        noise_on = self.training and self.noise
        if noise_on:
            std = F.softplus(tokens @ of_task(self.w_noise, task)) + self.noise_eps
            noisy = clean + self.draw_noise(clean) * std
        top_values, top_indices = noisy.topk(min(self.top_k + 1, self.num_experts), dim=-1)
        gates = top_values[:, : self.top_k].softmax(dim=-1)
        weights = torch.zeros_like(clean).scatter(-1, top_indices[:, : self.top_k], gates)
        if noise_on and self.top_k < self.num_experts:
            load = load_probability(clean, noisy, std, top_values, self.top_k).sum(0)
        else:
            load = (weights > 0).sum(0).to(weights.dtype)
        importance = weights.sum(0)
        weights = torch.where(weights > self.threshold, weights, 0.0)
        return Routing(weights, importance, load, clean)

    def draw_noise(self, logits: Tensor) -> Tensor:
        """Standard normal noise of the logits' shape."""
        return torch.randn_like(logits)


class SoftmaxRouter(nn.Module):
    """Plain softmax over all experts: every expert serves every token, K is not used.

    Args:
        dim: channels D of a token.
        num_experts: N.
        top_k: ignored.
        num_tasks: gate matrices in the bank.
        task_specific: False gives one router for all tasks.
    """

    def __init__(
        self, dim: int, num_experts: int, top_k: int | None = None, num_tasks: int = 1, task_specific: bool = True
    ) -> None:
        super().__init__()
        self.task_specific = task_specific
        self.w_gate = nn.Parameter(torch.zeros(num_tasks if task_specific else 1, dim, num_experts))

    def forward(self, tokens: Tensor, task: TaskWeights = 0) -> Routing:
        """Route `(T, D)` tokens."""
        if not self.task_specific:
            task = 0
        if not (isinstance(task, int) or is_index(task)):
            return mix_routings([(weight, self(tokens, t)) for t, weight in enumerate(task.tolist()) if weight])
        logits = tokens @ of_task(self.w_gate, task)
        weights = logits.softmax(dim=-1)
        return Routing(weights, weights.sum(0), weights.sum(0), logits)


class UniformRouter(nn.Module):
    """The average of all experts: the control experiment of routing. No parameters; K and tasks are not used."""

    def __init__(self, dim: int, num_experts: int, top_k: int | None = None, num_tasks: int = 1) -> None:
        super().__init__()
        self.num_experts = num_experts

    def forward(self, tokens: Tensor, task: TaskWeights = 0) -> Routing:
        """Route `(T, D)` tokens."""
        weights = tokens.new_full((len(tokens), self.num_experts), 1 / self.num_experts)
        return Routing(weights, weights.sum(0), weights.sum(0))


def mix_routings(parts: list[tuple[float, Routing]]) -> Routing:
    """Convex mix of routings of the same tokens: gates, importance and load add up by weight (TC-MoA Sec. 4.6)."""
    if not parts:
        raise ValueError("at least one task weight must not be zero")

    def mix(name: str) -> Tensor:
        return sum(weight * getattr(routing, name) for weight, routing in parts)

    return Routing(
        mix("weights"), mix("importance"), mix("load"), mix("logits") if parts[0][1].logits is not None else None
    )
