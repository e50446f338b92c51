"""A fusion site on one band of a pyramid: cues and routed experts give the prompts, the prompts fuse the band."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.models.tcmoa.cues import CUES, BandCues
from fusion.models.tcmoa.overview import FEATURES as SEEN
from fusion.models.tcmoa.overview import UNCHANGED, Setting
from fusion.moe.adapters.base import PromptControl
from fusion.moe.dispatch import dispatch
from fusion.moe.routers import TaskWeights, of_task
from fusion.moe.routing import Routing

if TYPE_CHECKING:
    from fusion.moe.adapters.mixture import MixtureOfAdapters

FEATURES = 2 * (len(CUES) - 1) + 1
PIECE = 1 << 18
"""Tokens that all experts see at once in use; more take memory and save no time."""
SOFT = 1.4e-4
"""Energy of half faint detail: three grey levels, squared."""
BOUND = 6.0
"""Largest change of a prompt's logit by the experts."""


@dataclass
class BandOutput:
    """What a site makes of its band.

    Attributes:
        prompts: `(B, 2, h, w)`, adding up to one.
        gain: `(B, 1, h, w)` factor on the fused detail, or on the contrast of the base.
        offset: `(B, 1, h', w')`, what the base is brightened by, before its bound.
        setting: of the pair as a whole.
        context: `(B, D, h', w')` for the next finer site, and the difference of the scores `(B, 1, h', w')`.
        routing: of the tokens; None without experts.
    """

    prompts: Tensor
    gain: Tensor
    offset: Tensor
    setting: Setting
    context: tuple[Tensor, Tensor]
    routing: Routing | None


@dataclass
class Evidence:
    """What a site knows of a pair before it decides.

    Attributes:
        scores: `(B, 2, h', w')` of the sources, from the cues of the tokens and the experts.
        gain: `(B, 1, h', w')`, before its bound.
        offset: `(B, 1, h', w')` in [-1, 1].
        features: `(B, D, h', w')` for the next finer site.
        routing: of the tokens; None without experts.
    """

    scores: Tensor
    gain: Tensor
    offset: Tensor
    features: Tensor
    routing: Routing | None

    @property
    def context(self) -> tuple[Tensor, Tensor]:
        """What the next finer site sees of this one."""
        return self.features, self.scores[:, :1] - self.scores[:, 1:]


class BandSite(nn.Module):
    """One TC-MoA on one band (ours, after Eqs. 2 to 4): scores of the sources, a softmax over them, a gain.

    The score of a source is a weighted sum of its cues, with weights per task, and what the experts add. Heads start at zero:
    before the first step the site is a classic fusion rule.

    Args:
        width: channels D of a token.
        recipe: the adapter whose settings it follows; None leaves the cues alone.
        num_tasks: tasks.
        cue_weights: `(num_tasks, 6)` initial weights of the cues, in the order of `CUES`.
        gain: `(num_tasks,)` initial gains.
        gain_bound: largest gain, and 1 over the smallest.
        base: the site of the base, whose tokens are single pixels and whose prompts are smooth.
        hardness: `(num_tasks,)` initial share of a whole choice that the prompts make, 0 (the average) to 1; None: 1, not trained.
        faint: `(num_tasks,)` initial factor on the gain where the detail of all sources is faint; None: 1, not trained.
        common: `(num_tasks,)` share of one choice for all places in the prompts, 0 to 1; None: 0. It is not trained.
        follows: what follows the pair as a whole, names of `Setting`; at first nothing changes.
    """

    hardness: nn.Parameter | None
    faint: nn.Parameter | None
    common: Tensor | None
    overview: nn.Parameter | None

    def __init__(
        self,
        width: int,
        recipe: "MixtureOfAdapters | None",
        num_tasks: int,
        cue_weights: Tensor,
        gain: Tensor,
        gain_bound: float,
        base: bool,
        hardness: Tensor | None = None,
        faint: Tensor | None = None,
        common: Tensor | None = None,
        follows: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.base, self.gain_log = base, float(torch.tensor(gain_bound).log())
        self.cue_weights = nn.Parameter(cue_weights.clone())
        self.gain = nn.Parameter((gain.log() / self.gain_log).clamp(-0.99, 0.99).atanh())
        self.register_parameter("hardness", None if hardness is None else nn.Parameter(hardness.clone()))
        self.register_parameter("faint", None if faint is None else nn.Parameter(faint.clamp_min(1e-3).log()))
        self.register_buffer("common", common, persistent=False)
        self.follows = tuple(follows)
        changes = torch.zeros(num_tasks, len(self.follows), len(SEEN))
        self.register_parameter("overview", nn.Parameter(changes) if follows else None)
        self.recipe = recipe is not None
        if recipe is None:
            return
        self.mix, self.mode = recipe.mix, recipe.dispatch
        context = 0 if base else width + 1
        self.reduce = nn.Conv2d(FEATURES + context, width, 3, padding=1, padding_mode="replicate")
        self.around = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")
        self.norm2 = nn.LayerNorm(width)
        self.source_embedding = nn.Parameter(torch.zeros(num_tasks, width))
        n, k = recipe.num_experts, recipe.top_k
        self.router = recipe.router(dim=width, num_experts=n, top_k=k, num_tasks=num_tasks)
        self.experts = recipe.expert(dim=width, num_experts=n)
        self.head = nn.Parameter(torch.zeros(num_tasks, width, 4))  # scores of a and b, gain, offset

    def forward(
        self,
        cues: BandCues,
        context: tuple[Tensor, Tensor] | None,
        task: TaskWeights,
        control: PromptControl,
        view: Tensor,
        overall: Tensor | None = None,
    ) -> BandOutput:
        """Decide on one band.

        Args:
            cues: of the band.
            context: of the next coarser site, None at the base.
            task: index, or `(num_tasks,)` weights.
            control: steering of the prompts.
            view: `(B, 8)` of the whole pair, see `fusion.models.tcmoa.overview.look_at`.
            overall: `(B, 2, 1, 1)` mean of the prompts over the whole picture, where this is a tile.
        """
        seen = self.evidence(cues, context, task)
        difference = self.spread(seen.scores[:, :1] - seen.scores[:, 1:], cues.energy[:, :1] - cues.energy[:, 1:], task)
        chosen = difference.sigmoid()
        setting = self.setting(view, task)
        chosen = self.soften(torch.cat([chosen, 1 - chosen], dim=1), task, setting)
        prompts = control(self.agree(chosen, task, setting, overall))
        gain = self.gain_of(seen.gain, cues.energy, task, setting)
        return BandOutput(prompts, gain, seen.offset + setting.offset, setting, seen.context, seen.routing)

    def setting(self, view: Tensor, task: TaskWeights) -> Setting:
        """What changes for a pair that looks like `view` as a whole."""
        if self.overview is None:
            return UNCHANGED
        changes = (view @ of_task(self.overview, task).T)[..., None, None, None]
        return Setting(**dict(zip(self.follows, changes.unbind(1), strict=True)))

    def evidence(self, cues: BandCues, context: tuple[Tensor, Tensor] | None, task: TaskWeights) -> Evidence:
        """Scores of a pair, and what the experts say of gain and offset; see `forward`."""
        weights, gain = of_task(self.cue_weights, task), of_task(self.gain, task)
        scores = (cues.tokens * weights[1:, None, None]).sum(2)  # (B, 2, h', w')
        features, offset, routing = scores[:, :1] * 0, scores[:, :1] * 0, None
        gain = gain + features
        if self.recipe:
            features, routing, head = self._experts(cues, context, task)
            scores = scores + BOUND * (head[:, :2] / BOUND).tanh()
            gain, offset = gain + head[:, 2:3], head[:, 3:].tanh()
        return Evidence(scores, gain, offset, features, routing)

    def spread(self, scores: Tensor, energy: Tensor, task: TaskWeights) -> Tensor:
        """Scores of tokens, or their difference, on the pixels of the band, with the energy there; linear in both."""
        share = of_task(self.cue_weights, task)[0] * energy
        return smooth(scores + share) if self.base else resize(scores, energy.shape[-2:]) + share

    def soften(self, prompts: Tensor, task: TaskWeights, setting: Setting = UNCHANGED) -> Tensor:
        """Prompts `(B, n, h, w)` nearer to 1/n, by the task's hardness."""
        if self.hardness is None:
            return prompts
        even, hardness = 1 / prompts.shape[1], of_task(self.hardness, task) + setting.hardness
        bounded = hardness + (hardness.clamp(0, 1) - hardness).detach()  # which a step may leave, and come back
        return even + bounded * (prompts - even)

    def agree(
        self, prompts: Tensor, task: TaskWeights, setting: Setting = UNCHANGED, overall: Tensor | None = None
    ) -> Tensor:
        """Prompts `(B, n, h, w)` nearer to their mean over the whole picture, by the task's share of a common choice."""
        if self.common is None:
            return prompts
        overall = prompts.mean((-2, -1), keepdim=True) if overall is None else overall
        share = of_task(self.common, task) + setting.common
        return prompts + share.clamp(0, 1) * (overall - prompts)

    def gain_of(self, gain: Tensor, energy: Tensor, task: TaskWeights, setting: Setting = UNCHANGED) -> Tensor:
        """Factor on the band on its pixels: within the bound for the tokens, and less or more where all energy is faint."""
        logarithm = resize(self.gain_log * (gain + setting.gain).tanh(), energy.shape[-2:])
        if self.faint is not None:
            loudest = energy.amax(1, keepdim=True)
            faint = of_task(self.faint, task) + setting.faint
            logarithm = logarithm + faint * (math.log(SOFT) - loudest).sigmoid()
        return logarithm.exp()

    def _experts(
        self, cues: BandCues, context: tuple[Tensor, Tensor] | None, task: TaskWeights
    ) -> tuple[Tensor, Routing, Tensor]:
        seen = cues.features
        if context is not None:
            seen = torch.cat([seen, *(resize(x, seen.shape[-2:]) for x in (context[0], context[1].tanh()))], dim=1)
        hidden = self.around(F.gelu(self.reduce(seen)))
        phi = self.norm2(hidden.movedim(1, -1) + of_task(self.source_embedding, task))  # (B, h', w', D), Eq. 2
        routing = self.router(phi.flatten(0, 2), task)
        routing.shape = tuple(phi.shape[:3])
        return hidden, routing, self._mixed(phi, routing.weights, of_task(self.head, task)).movedim(-1, 1)

    def _mixed(self, phi: Tensor, weights: Tensor, head: Tensor) -> Tensor:
        """What the experts say of tokens `(B, h', w', D)` after the head, Eq. 4; of many tokens piece by piece."""
        # A graph for every size has no number of pieces to be written down.
        whole = torch.is_grad_enabled() or torch.compiler.is_exporting()
        if whole or len(weights) <= PIECE or not self.experts.tokenwise:
            return dispatch(self.experts, phi, weights, self.mix, self.mode) @ head
        made = phi.new_empty(*phi.shape[:-1], head.shape[-1])
        pieces = (x.split(PIECE) for x in (made.flatten(0, -2), phi.flatten(0, -2), weights))
        for target, tokens, gates in zip(*pieces, strict=True):
            target.copy_(dispatch(self.experts, tokens, gates, self.mix, self.mode) @ head)
        return made


def smooth(x: Tensor) -> Tensor:
    """Binomial 3x3 filter of `(B, C, h, w)`, the border repeated."""
    for axis in (-2, -1):
        n = x.shape[axis]
        before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)], axis)
        after = torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], axis)
        x = (before + 2 * x + after) / 4
    return x


def resize(x: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Bilinear, to the size of the next band."""
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)
