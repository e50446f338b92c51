"""Routing: gates per token, and the statistics that balance losses need."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Routing:
    """The decision of one router for T tokens and N experts.

    Attributes:
        weights: `(T, N)` gates in [0, 1], zero where an expert is not used.
        importance: `(N,)` sum of the gates over the tokens, before any threshold (Shazeer et al. 2017, Eq. 6).
        load: `(N,)` expected number of tokens per expert (Shazeer et al. 2017, Eq. 10), or their count.
        logits: `(T, N)` noise-free logits; None for routers without any.
        shape: the token grid that T flattens, for maps: `(B, h, w)` or `(B,)`.
    """

    weights: Tensor
    importance: Tensor
    load: Tensor
    logits: Tensor | None = None
    shape: tuple[int, ...] = ()
