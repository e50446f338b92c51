"""What a model may ask of an adapter, and what passes between them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusion.moe.routing import Routing


@dataclass(frozen=True)
class PromptControl:
    """Steering of the prompts at inference: p_a' = c + alpha (p_a - c) + beta, p_b' = c + alpha (p_b - c) - beta.

    TC-MoA Sec. 4.6; nothing is clamped.

    Attributes:
        alpha: scale of the prompts around the centre; 0 weighs both sources alike, above 1 sharpens the choice.
        beta: shift towards source a (positive) or b (negative).
        center: c.
    """

    alpha: float = 1.0
    beta: float = 0.0
    center: float = 0.5

    def __call__(self, prompts: Tensor) -> Tensor:
        """`(B, 2, h, w)` prompts, steered."""
        if self.alpha == 1 and self.beta == 0:
            return prompts
        steered = self.center + self.alpha * (prompts - self.center)
        return torch.stack([steered[:, 0] + self.beta, steered[:, 1] - self.beta], dim=1)


@dataclass
class SiteOutput:
    """What a fusion site returns: both streams `(B, h, w, D)`, prompts `(B, 2, h, w)` and the routing behind them."""

    a: Tensor
    b: Tensor
    prompts: Tensor | None = None
    routing: Routing | None = None


class Adapter:
    """Recipe for the trainable parts of a tuned backbone. Subclasses override what they have.

    Args:
        num_experts: N of the model.
        top_k: K of the model.
        num_tasks: tasks of the model.
        router: makes a router from `dim, num_experts, top_k, num_tasks`.
        expert: makes a bank of experts from `dim, num_experts`.
    """

    unfreeze: tuple[str, ...] = ()
    """Name prefixes of backbone parameters that train as well."""
    trains_positions = True
    """Whether the relative positions within windows, which a backbone does not bring, are trained."""

    def __init__(
        self,
        num_experts: int,
        top_k: int,
        num_tasks: int,
        router: Callable[..., nn.Module],
        expert: Callable[..., nn.Module],
    ) -> None:
        self.num_experts, self.top_k, self.num_tasks = num_experts, top_k, num_tasks
        self.router, self.expert = router, expert

    def site(self, dim: int) -> nn.Module | None:
        """A module `(a, b, task, control) -> SiteOutput` after every tau-th block, or None: the streams are then averaged once.

        It gets float32 streams. Autocast may be on; what needs float32 inside switches it off.
        """
        return None

    def branch(self, dim: int) -> nn.Module | None:
        """A module parallel to the MLP of every block, or None."""
        return None
