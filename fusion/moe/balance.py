"""Balance losses: keep every expert in use (Shazeer et al. 2017, Sec. 4)."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from fusion.moe.routing import Routing

KINDS = ("importance_load", "importance", "load", "none")


def squared_cv(values: Tensor) -> Tensor:
    """Squared coefficient of variation with unbiased variance, over the last dimension; 0 for a single value."""
    if values.shape[-1] == 1:
        return values.new_zeros(values.shape[:-1])
    return values.var(dim=-1) / (values.mean(dim=-1) ** 2 + 1e-10)


def balance_loss(routings: Sequence[Routing], kind: str = "importance_load", sync: bool = True) -> Tensor:
    """Sum over the routings of cv^2(importance) + cv^2(load), without a coefficient.

    The coefficient of variation of a batch is not the mean of those of its halves, so under data parallelism importance
    and load are first added up over the ranks: training on two ranks then equals training on one with the double batch.

    Args:
        routings: one per router call, all with the same number of experts.
        kind: which of the two terms ("importance_load" in the papers).
        sync: add up over the ranks.

    Returns:
        Scalar.
    """
    if kind not in KINDS:
        raise ValueError(f"balance loss '{kind}' is not one of {', '.join(KINDS)}")
    if kind == "none" or not routings:
        return torch.zeros((), device=routings[0].weights.device if routings else None)
    stats = torch.stack([torch.stack([r.importance, r.load]) for r in routings])  # (sites, 2, N)
    if sync and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        stats = _SumOverRanks.apply(stats)
    terms = squared_cv(stats)
    if kind == "importance_load":
        return terms.sum()
    return terms[:, 0 if kind == "importance" else 1].sum()


class _SumOverRanks(torch.autograd.Function):
    """Differentiable all-reduce; PyTorch's own is deprecated or private, depending on the version."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()  # every rank's loss depends on every rank's values
        dist.all_reduce(total)
        return total
