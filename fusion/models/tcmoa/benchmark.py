"""An objective of metrics: what benchmarks measure, each in units of how much published methods differ in it (ours)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion import losses as L
from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError
from fusion.metrics import compute, info
from fusion.metrics.inputs import luma
from fusion.models.output import FusionOutput
from fusion.models.tcmoa.losses import TCMoALoss, Terms

SOFT = {"soft_mi": 1, "soft_en": 1, "soft_ce": -1}
"""Metrics of ours on soft histograms, and the sign of better."""
REFERENCE = ("reference_l1", "reference_gradient", "reference_ssim")
TONE = ("smooth", "tone", "range", "hot", "inverted")
LOGARITHMIC = ("qcv",)
"""Errors that spread over decades: their logarithms are compared."""
STRENGTHS = ("ag", "sf", "ei", "sd")
"""Metrics that grow with contrast without end: they count up to a ceiling, in multiples of the stronger source's."""
PRECISE = ("mef_ssim",)
"""Metrics that lose their gradient in flat places in single precision."""
Weights = Mapping[str, Mapping[str, float]]


class BenchmarkLoss(TCMoALoss):
    """Sum of weight x metric / spread, less what the base is asked for.

    Args:
        spreads: by metric, standard deviation over published methods of their means on a benchmark; of logarithms for Q_CV.
        weights: by task and term. Terms are differentiable metrics (`fusion.metrics`, convention exact, on luma), the soft ones of
            `SOFT`, distances to the truth (`REFERENCE`, for pairs that have one) and the tone terms `TONE`. 0 leaves one out.
        ceiling: by task and metric of `STRENGTHS`, the multiple of the stronger source's from which on more of it counts against.
        inverted_sides: of the squares that "inverted" compares, in pixels, see `fusion.losses.inverted_tone`.
        shared: see `TCMoALoss`.

    Raises:
        ConfigError: an unknown term, one without a spread, a metric without gradients, or impossible sides.
    """

    def __init__(
        self,
        spreads: Mapping[str, float],
        weights: Weights,
        ceiling: Weights | None = None,
        inverted_sides: Sequence[int] = (8, 16, 32),
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.inverted_sides = tuple(inverted_sides)
        if not self.inverted_sides or min(self.inverted_sides) < 1:
            raise ConfigError(
                f"model.loss.inverted_sides={list(inverted_sides)}: expected numbers of pixels, 1 or more"
            )
        self.spreads = {name: float(value) for name, value in spreads.items()}
        self.weights = {task: {name: float(w) for name, w in table.items()} for task, table in weights.items()}
        self.ceiling = {task: dict(table) for task, table in (ceiling or {}).items()}
        for task, table in self.weights.items():
            for name in table:
                self._check(task, name)
        for task, table in self.ceiling.items():
            if unknown := sorted(set(table) - set(STRENGTHS)):
                raise ConfigError(f"model.loss.ceiling.{task}.{unknown[0]} is not one of {', '.join(STRENGTHS)}")

    def _check(self, task: str, name: str) -> None:
        if name in REFERENCE or name in TONE:
            return
        if name not in self.spreads or not self.spreads[name] > 0:
            raise ConfigError(f"model.loss.weights.{task}.{name} needs model.loss.spreads.{name}, a positive number")
        if name not in SOFT and not info(name).differentiable:
            raise ConfigError(f"model.loss.weights.{task}.{name}: this metric has no gradient")

    def forward(self, output: FusionOutput, batch: FusionBatch, epoch: int) -> Terms:
        """Weighted terms by name; their sum is the loss. A metric that is better makes its term smaller, below 0 as well."""
        task = batch["task"]
        table = self.weights.get(task) or self.weights["vif"]
        terms = self.regularization(output, epoch)
        fused, a, b = output.fused.float(), batch["a"], batch["b"]
        metrics = [n for n, w in table.items() if w and n not in REFERENCE and n not in TONE and n not in SOFT]
        values: dict[str, Tensor] = {}
        for dtype in (torch.float32, torch.float64):
            names = [name for name in metrics if (name in PRECISE) == (dtype == torch.float64)]
            values |= compute(a, b, fused.clamp(0, 1), names, color="luma", dtype=dtype)
        for name in metrics:
            sign = 1 if info(name).higher_is_better else -1
            value = values[name]
            if name in LOGARITHMIC:
                value = value.clamp_min(1e-3).log()
            elif name in STRENGTHS and name in self.ceiling.get(task, {}):
                value = _saturate(value, self._strongest(name, a, b) * self.ceiling[task][name])
            terms[name] = -table[name] * sign * value.mean().float() / self.spreads[name]
        terms |= self._soft(table, fused, a, b)
        terms |= self._reference(table, fused, batch)
        return terms | self._tone(table, output, batch)

    @staticmethod
    def _strongest(name: str, a: Tensor, b: Tensor) -> Tensor:
        with torch.no_grad():
            own = [compute(x, x, x, [name], color="luma", dtype=torch.float32)[name] for x in (a, b)]
        return torch.maximum(*own)

    def _soft(self, table: Mapping[str, float], fused: Tensor, a: Tensor, b: Tensor) -> Terms:
        names = [name for name in SOFT if table.get(name)]
        if not names:
            return {}
        # every second pixel of every second row: histograms of a quarter are nearly those of the whole
        planes = [luma(x[..., ::2, ::2]) for x in (fused, a, b)]
        functions = {
            "soft_mi": lambda: L.soft_mutual_information(*planes),
            "soft_en": lambda: L.soft_entropy(planes[0]),
            "soft_ce": lambda: L.soft_cross_entropy(*planes),
        }
        return {n: -table[n] * SOFT[n] * functions[n]().mean() / self.spreads[n] for n in names}

    @staticmethod
    def _reference(table: Mapping[str, float], fused: Tensor, batch: FusionBatch) -> Terms:
        truth = batch.get("reference")
        if truth is None:
            return {}
        functions = {
            "reference_l1": lambda: F.l1_loss(fused, truth),
            "reference_gradient": lambda: L.max_gradient_l1(fused, truth, truth),
            "reference_ssim": lambda: 1 - L.ssim(fused, truth),
        }
        return {name: table[name] * function() for name, function in functions.items() if table.get(name)}

    def _tone(self, table: Mapping[str, float], output: FusionOutput, batch: FusionBatch) -> Terms:
        if "base" not in output.extras:
            return {}
        base, sources = output.extras["base"], output.extras["base_sources"]
        fused, a, b = (luma(x).unsqueeze(1) for x in (output.fused, batch["a"], batch["b"]))
        functions = {
            "smooth": lambda: L.roughness(output.extras["base_prompts"]),
            "tone": lambda: L.tone_distance(base, sources),
            "range": lambda: L.out_of_range(base, sources),
            "hot": lambda: L.dull_targets(fused, b),
            "inverted": lambda: L.inverted_tone(fused, torch.cat([a, b], dim=1), self.inverted_sides),
        }
        return {name: table[name] * function() for name, function in functions.items() if table.get(name)}


def _saturate(value: Tensor, ceiling: Tensor) -> Tensor:
    """`value` up to its ceiling, then falling as slowly as it rose."""
    return ceiling - (ceiling - value).abs()
