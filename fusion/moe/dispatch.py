"""Dispatch tokens to experts and combine what the experts say."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

MIXES = ("log_sum_exp", "linear")
DISPATCHES = ("dense", "sparse")


def combine(outputs: Tensor, weights: Tensor, mix: str = "log_sum_exp") -> Tensor:
    """Combine the experts' outputs by their gates.

    "log_sum_exp" is log(sum_i g_i exp(E_i)), what the released TC-MoA and MoE-Fusion code computes, here without overflow;
    "linear" is sum_i g_i E_i (TC-MoA Eq. 4).

    Args:
        outputs: `(N, T, ...)`.
        weights: `(T, N)` gates; zero leaves an expert out.
        mix: one of `MIXES`.

    Returns:
        `(T, ...)`.
    """
    gates = weights.t().reshape(*weights.t().shape, *(1,) * (outputs.dim() - 2))
    if mix == "linear":
        return (gates * outputs).sum(0)
    used = gates > 0  # one number per token and expert: the outputs themselves are read once
    log_gates = torch.where(used, gates, 1.0).log().masked_fill(~used, -torch.inf)
    return (outputs + log_gates).logsumexp(0)


def dispatch(
    experts: nn.Module, tokens: Tensor, weights: Tensor, mix: str = "log_sum_exp", mode: str = "dense"
) -> Tensor:
    """Run the experts on the tokens that route to them and combine the results.

    "dense" runs every expert on every token as one batched product, without host synchronisation; in training it is the faster
    one for experts as small as these (experiments/benchmarks/README.md). "sparse" runs each expert on its own tokens only, which
    pays in inference on a CPU when tokens are wide.

    Args:
        experts: a bank of `fusion.moe.experts`.
        tokens: `(B, h, w, D)` or `(T, D)`.
        weights: `(T, N)` gates of the flattened tokens.
        mix: one of `MIXES`.
        mode: one of `DISPATCHES`; banks that are not token-wise always run dense.

    Returns:
        The shape of `tokens`.
    """
    flat = tokens.reshape(-1, tokens.shape[-1])
    if mode == "dense" or not experts.tokenwise:
        return combine(experts(tokens).flatten(1, -2), weights, mix).view_as(tokens)
    run_one: Callable[[int, Tensor], Tensor] = experts.run_one  # type: ignore[assignment]
    outputs = flat.new_zeros(weights.shape[1], *flat.shape)
    for index in range(weights.shape[1]):
        rows = weights[:, index].nonzero().squeeze(1)
        outputs[index] = outputs[index].index_copy(0, rows, run_one(index, flat[rows]))
    return combine(outputs, weights, mix).view_as(tokens)
