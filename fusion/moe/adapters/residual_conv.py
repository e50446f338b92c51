"""Fusion convolutions beside a path that passes everything, with a gain that goes by what the sources show."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from fusion.moe.adapters.fusion_conv import BottleneckConv, Weighted
from fusion.moe.routers import TaskWeights, of_task

FAINT = 1e-5  # energy that is taken for none
USUAL = 6.0  # minus the usual logarithm of an energy, so that the gain's bias and slopes learn apart


class ResidualConv(BottleneckConv):
    """Adds detail to the weighted mean of two sources, more or less of it from place to place; nothing before the first step.

    Ours, for small backbones and short trainings, in place of Eq. 5. A token that holds all of a patch does not fit through the
    bottleneck, so it passes beside it, as a weighted mean: prompts that do not sum to one would change the brightness. All else in
    a site is linear in the tokens but for two numbers each, so that it can only sharpen everything alike; the best picture has more
    contrast than the mean where the sources differ (two noises average out), and no more where they agree. Each channel of the
    bottleneck is therefore multiplied by `2 sigmoid(w_1 log E(mean) + w_2 log E(difference) + b)`, E the energy of that channel
    around the token.

    Args:
        dim: channels in and out.
        reduction: factor between `dim` and the inner width.
        num_tasks: tasks, each with slopes and biases of its own.
    """

    no_weight_decay = ("gain_bias",)

    def __init__(self, dim: int, reduction: int = 4, num_tasks: int = 1) -> None:
        super().__init__(dim, reduction)
        nn.init.zeros_(self[-1].get_parameter("weight"))
        self.gain_weight = nn.Parameter(torch.zeros(num_tasks, dim // reduction, 2))
        self.gain_bias = nn.Parameter(torch.zeros(num_tasks, dim // reduction))

    def forward(  # type: ignore[override]
        self, tokens: Tensor, difference: Tensor, total: Tensor, embedding: Tensor, task: TaskWeights
    ) -> Tensor:
        """Fused tokens `(B, h, w, C)`.

        Args:
            tokens: `p_a a + p_b b`, `(B, h, w, C)`.
            difference: `a - b`, likewise.
            total: `p_a + p_b`, `(B, h, w, 1)`.
            embedding: `s_a + s_b`, `(C,)`.
            task: index, or `(num_tasks,)` weights.
        """
        detail, contrast = self._narrow(tokens + embedding), self._narrow(difference)
        energies = torch.stack([_log_energy(detail), _log_energy(contrast)], dim=-1)
        weight, bias = (of_task(values, task)[..., None, None] for values in (self.gain_weight, self.gain_bias))
        gain = 2 * ((energies * weight.movedim(1, -1)).sum(-1) + bias).sigmoid()
        added = self[2](detail * gain).permute(0, 2, 3, 1)
        return tokens / total.clamp_min(0.1) + embedding + added  # steered prompts may sum to nothing

    def merge(self, weighted: Weighted, embedding: Tensor, task: TaskWeights) -> Tensor:
        """See `BottleneckConv.merge`."""
        return self(weighted.sum, weighted.a - weighted.b, weighted.p_a + weighted.p_b, embedding, task)

    def _narrow(self, tokens: Tensor) -> Tensor:
        return self[1](self[0](tokens.permute(0, 3, 1, 2)))  # (B, C / 4, h, w)


def _log_energy(features: Tensor) -> Tensor:
    """Logarithm of the mean square over 3x3 tokens, about centred; in single precision, which squares need."""
    energy = avg_pool2d(features.float().square(), 3, 1, 1, count_include_pad=False)
    return (energy + FAINT).log() + USUAL
