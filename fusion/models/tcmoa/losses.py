"""The objectives TC-MoA is trained with: one per task (Eqs. 7-17), and the unified one it is compared against (Table 7)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion import losses as L
from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError
from fusion.models.output import FusionOutput
from fusion.moe.balance import balance_loss

Terms = dict[str, Tensor]
MIR_KINDS = ("squared", "l1", "none")
WEIGHTS: dict[str, dict[str, dict[str, float]]] = {
    "official": {  # factors that the released code hides inside a term (3 in the gradients) or around all (1.8, 20) multiplied out
        "vif": {"gradient": 4.5, "pixel": 1.5, "ssim": 2.0, "mir": 1.0},
        "mef": {"gradient": 5.4, "pixel": 5.4, "mef_ssim": 3.6, "mir": 1.8},
        "mff": {"gradient": 60.0, "pixel": 20.0, "ssim": 3.0, "mir": 1.0},
    },
    "unit": {
        "vif": {"gradient": 1.0, "pixel": 1.0, "ssim": 1.0, "mir": 1.0},
        "mef": {"gradient": 1.0, "pixel": 1.0, "mef_ssim": 1.0, "mir": 1.0},
        "mff": {"gradient": 1.0, "pixel": 1.0, "ssim": 1.0, "mir": 1.0},
    },
}
"""Weights of the loss terms by task; "pixel" is to the maximum for vif, to the mean for mef, to the target for mff."""
OPTIONAL: dict[str, tuple[str, ...]] = {
    "vif": ("edge",),
    "mef": ("ssim", "edge"),
    "mff": ("source_ssim", "edge"),
}
"""Terms of ours that no table has, for `term_weights`: "edge" keeps the sources' edges (Q_ABF); "source_ssim" compares with both
sources where "ssim" compares with the multi-focus target."""
WARMUP_WEIGHTS: dict[str, dict[str, dict[str, float]]] = {
    "official": {
        "vif": {"pixel": 3.0, "ssim": 1.0},
        "mef": {"pixel": 3.0, "ssim": 1.0},
        "mff": {"pixel": 1.0, "ssim": 1.0},
    },
    "unit": {task: {"pixel": 1.0, "ssim": 1.0} for task in ("vif", "mef", "mff")},
}
"""The same in the warm-up, which averages the sources (mff: takes the target)."""


def mutual_information_regularization(output: FusionOutput, kind: str = "squared") -> Tensor:
    """MIR, Eq. 7: the two prompts of a token should add up to one.

    Args:
        output: with prompts; the terms of the encoder's sites count 0.75, those of the decoder's 0.25.
        kind: "squared" (released code), "l1" (Eq. 7) or "none".

    Returns:
        Scalar.
    """
    total = output.fused.new_zeros(())
    if kind == "none":
        return total
    measure = F.mse_loss if kind == "squared" else F.l1_loss
    for stage, weight in (("encoder", 0.75), ("decoder", 0.25)):
        sums = [
            p.sum(1)
            for site, p in zip(output.sites, output.prompts, strict=True)
            if site.startswith(stage) and p is not None
        ]
        if sums:
            stacked = torch.stack(sums)
            total = total + weight * measure(stacked, torch.ones_like(stacked))
    return total


class TCMoALoss(nn.Module):
    """What both objectives share: regularisation of prompts and routers.

    Args:
        balance_coef: coefficient of the balance loss, which also fades as 1 / (epoch + 1) (released code).
        balance: which balance terms, see `balance_loss`.
        mir: see `mutual_information_regularization`.
        sync_balance: balance over all ranks rather than each for itself.
    """

    def __init__(
        self,
        balance_coef: float = 1e-3,
        balance: str = "importance_load",
        mir: str = "squared",
        sync_balance: bool = True,
    ) -> None:
        super().__init__()
        if mir not in MIR_KINDS:
            raise ConfigError(f"model.loss.mir={mir} is not one of {', '.join(MIR_KINDS)}")
        self.balance_coef, self.balance, self.mir, self.sync_balance = balance_coef, balance, mir, sync_balance

    def regularization(self, output: FusionOutput, epoch: int) -> Terms:
        """Terms "mir" and "balance"; the latter is there only where something is routed."""
        terms = {"mir": mutual_information_regularization(output, self.mir)}
        routings = [r for r in output.routings if r is not None and r.weights.shape[1] > 1]
        if routings and self.balance != "none":
            terms["balance"] = self.balance_coef / (epoch + 1) * balance_loss(routings, self.balance, self.sync_balance)
        return terms


class TaskCustomizedLoss(TCMoALoss):
    """A loss of its own for each task (Eqs. 9-17), after a warm-up that averages the sources.

    Args:
        warmup_epochs: epochs of the averaging loss (released code: 2; the paper mentions none).
        weights: "official" (the released code's factors) or "unit" (all one, as Eqs. 9-17 are printed).
        term_weights: by task and term, in place of the chosen table's, e.g. `{"vif": {"ssim": 4.0}}`. A term of weight 0 is
            left out. `OPTIONAL` has terms that no table has.
        mefssim: "stacked" (released code) or "per_sample", see `fusion.losses.mef_ssim`.
        signed_gradient: False is the ablation of supplement Fig. 12.
        patch: side in pixels of the patches that the multi-focus target is made of.
        shared: see `TCMoALoss`.
    """

    def __init__(
        self,
        warmup_epochs: int = 2,
        weights: str = "official",
        term_weights: Mapping[str, Mapping[str, float]] | None = None,
        mefssim: str = "stacked",
        signed_gradient: bool = True,
        patch: int = 16,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if weights not in WEIGHTS:
            raise ConfigError(f"model.loss.weights={weights} is not one of {', '.join(WEIGHTS)}")
        self.warmup_epochs, self.mefssim = warmup_epochs, mefssim
        self.signed_gradient, self.patch = signed_gradient, patch
        self.weights = {task: dict(table) for task, table in WEIGHTS[weights].items()}
        self.warmup_weights = WARMUP_WEIGHTS[weights]
        known_terms = {task: (*table, *OPTIONAL[task]) for task, table in self.weights.items()}
        for task, terms in (term_weights or {}).items():
            unknown = [f"{task}.{term}" for term in terms if term not in known_terms.get(task, ())]
            if task not in self.weights or unknown:
                known = ", ".join(f"{t}.{term}" for t, table in known_terms.items() for term in table)
                raise ConfigError(f"model.loss.term_weights: {unknown[0] if unknown else task} is not one of {known}")
            self.weights[task] |= terms

    def forward(self, output: FusionOutput, batch: FusionBatch, epoch: int) -> Terms:
        """Weighted terms by name; their sum is the loss.

        Args:
            output: output of the network.
            batch: its task decides the objective.
            epoch: 0-based.
        """
        task, sources = batch["task"], (batch["a"], batch["b"])
        warm = epoch < self.warmup_epochs
        target = (L.sharper_patches(*sources, self.patch),) * 2 if task == "mff" else sources  # mff: one for both
        terms = self.regularization(output, epoch)
        for name, weight in (self.warmup_weights if warm else self.weights)[task].items():
            if name == "mir":
                terms["mir"] = weight * terms["mir"]
            elif weight:
                pair = sources if name in ("edge", "source_ssim") else target
                terms[name] = weight * self._term(name, output.fused, *pair, mean=task == "mef" or warm)
        return terms

    def _term(self, name: str, fused: Tensor, a: Tensor, b: Tensor, mean: bool) -> Tensor:
        if name == "edge":
            return 1 - L.edge_preservation(fused, a, b)
        if name == "gradient":
            return L.max_gradient_l1(fused, a, b, self.signed_gradient)
        if name == "pixel":
            return (L.mean_pixel_l1 if mean else L.max_pixel_l1)(fused, a, b)
        if name == "mef_ssim":
            return 1 - L.mef_ssim(fused, a, b, self.mefssim)
        return dissimilarity(fused, a, b)


class UnifiedLoss(TCMoALoss):
    """One loss for all tasks: PMGI's gradient and intensity terms to both sources, with SSIM (Sec. 7, Table 7).

    PMGI (Zhang et al. 2020) weighs the distances to each source by fixed factors; TC-MoA gives none, so both sources count
    alike here.

    Args:
        gradient: weight of the gradient term.
        pixel: weight of the intensity term.
        ssim: weight of the structure term.
        shared: see `TCMoALoss`.
    """

    def __init__(self, gradient: float = 1.0, pixel: float = 1.0, ssim: float = 1.0, **shared: Any) -> None:
        super().__init__(**shared)
        self.gradient, self.pixel, self.ssim = gradient, pixel, ssim

    def forward(self, output: FusionOutput, batch: FusionBatch, epoch: int) -> Terms:
        """Weighted terms by name; their sum is the loss."""
        a, b, fused = batch["a"], batch["b"], output.fused

        def to_both(distance: Callable[[Tensor, Tensor], Tensor], of: Callable[[Tensor], Tensor]) -> Tensor:
            return (distance(of(fused), of(a)) + distance(of(fused), of(b))) / 2

        image_terms = {
            "gradient": self.gradient * to_both(F.mse_loss, L.color_gradient),
            "pixel": self.pixel * to_both(F.mse_loss, lambda x: x),
            "ssim": self.ssim * dissimilarity(fused, a, b),
        }
        return image_terms | self.regularization(output, epoch)


def dissimilarity(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Mean over the sources of 1 - SSIM; scalar."""
    if a is b:
        return 1 - L.ssim(fused, a)
    return 1 - (L.ssim(fused, a) + L.ssim(fused, b)) / 2
