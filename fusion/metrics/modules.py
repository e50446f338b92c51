"""torchmetrics classes: running means over batches and processes, and the per-image table behind them."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from fusion.errors import DataError
from fusion.metrics.compute import MetricKey, compute
from fusion.metrics.conventions import Colour
from fusion.metrics.registry import info, names


class FusionMetrics(Metric):
    """Means of several metrics over a data set; metrics of one update share their planes, histograms and moments.

    With sample ids, each image counts once however often a distributed sampler repeats it, and `table()` gives the
    values per image. Without ids the sums are reduced, and repeated images count repeatedly.

    Args:
        metrics: names as `fusion.metrics.compute` takes them.
        convention: for names that state none.
        colour: overrides the convention's colour policy for names that state none.
        dtype: of the computation.
    """

    is_differentiable = False  # update() works without gradients; fusion.metrics.compute passes them
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(
        self,
        metrics: Sequence[str],
        convention: str = "exact",
        *,
        colour: Colour | None = None,
        dtype: torch.dtype = torch.float64,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.metrics = list(metrics)
        self.convention, self.colour, self.compute_dtype = convention, colour, dtype
        for text in self.metrics:
            MetricKey.parse(text, convention, colour)
        self.add_state("total", torch.zeros(len(self.metrics), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self._rows: dict[str, Tensor] = {}

    def update(self, a: Tensor, b: Tensor, fused: Tensor, ids: Sequence[str] | None = None) -> None:
        """Adds a batch.

        Args:
            a: first sources `(B, 1|3, H, W)`, uint8 or floating point in [0, 1].
            b: second sources.
            fused: fused images.
            ids: one name per image, unique in the data set; given for all batches or for none.

        Raises:
            DataError: for a number of ids that is not the number of images, or ids for some batches only.
        """
        with torch.no_grad():
            values = compute(a, b, fused, self.metrics, self.convention, colour=self.colour, dtype=self.compute_dtype)
        rows = torch.stack(list(values.values()), 1).double()  # (B, K)
        if ids is not None and len(ids) != len(rows):
            raise DataError(f"{len(ids)} ids for {len(rows)} images; give one id per image")
        if self.count > 0 and (ids is None) == bool(self._rows):
            raise DataError("ids were given for some batches only; give them for all or for none")
        if ids is not None:
            self._rows.update(zip(ids, rows, strict=True))
        self.total += rows.sum(0)
        self.count += len(rows)

    def compute(self) -> dict[str, Tensor]:
        """Mean of each metric over the images of all processes, scalars keyed as in `metrics`; NaN before any image."""
        rows = list(self._gathered().values())
        mean = torch.stack(rows).mean(0) if rows else self.total / self.count
        return dict(zip(self.metrics, mean, strict=True))

    def table(self) -> dict[str, dict[str, float]]:
        """Values per image of all processes, `{id: {metric: value}}` in the order of ids; empty without ids."""
        rows = self._gathered()
        return {name: dict(zip(self.metrics, rows[name].tolist(), strict=True)) for name in sorted(rows)}

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self._rows = {}

    def _gathered(self) -> dict[str, Tensor]:
        rows = {name: row.to(self.total.device) for name, row in self._rows.items()}
        if not (dist.is_available() and dist.is_initialized()):
            return rows
        parts: list[dict[str, list[float]] | None] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, {name: row.tolist() for name, row in rows.items()})
        merged = {name: row for part in parts for name, row in (part or {}).items()}
        return {name: torch.tensor(row, dtype=torch.float64, device=self.total.device) for name, row in merged.items()}


class FusionMetric(FusionMetrics):
    """One metric as a torchmetrics class; `compute()` gives a scalar. `CLASSES` holds one subclass per metric.

    Args:
        convention: exact, vifb, mefb, liu, tang or tang_legacy; the metric must be part of it.
        colour: overrides the convention's colour policy.
        dtype: of the computation.
    """

    name: str

    def __init__(self, convention: str = "exact", **kwargs: Any) -> None:
        super().__init__([self.name], convention, **kwargs)

    def compute(self) -> Tensor:  # type: ignore[override]
        """Mean over the images of all processes, a scalar."""
        return super().compute()[self.metrics[0]]


def _class_of(name: str) -> type[FusionMetric]:
    """The class of one metric, `MsSsim` for `ms_ssim`, documented by its registry entry."""
    known = info(name)
    title = "".join(part.capitalize() for part in name.split("_"))
    low, high = known.bounds
    doc = (
        f"{known.symbol}: {known.title} ({'higher' if known.higher_is_better else 'lower'} is better).\n\n"
        f"{known.describe()}\n\nRange: {'-inf' if low is None else low} to {'inf' if high is None else high} "
        f"(exact). Source: {known.source}. Conventions: {', '.join(known.variants)}.\n"
    )
    fields = {"name": name, "__doc__": doc, "__module__": __name__, "higher_is_better": known.higher_is_better}
    return type(title, (FusionMetric,), fields)


CLASSES: dict[str, type[FusionMetric]] = {name: _class_of(name) for name in names()}
"""A torchmetrics class per metric: `CLASSES["qabf"]` is `fusion.metrics.modules.Qabf`."""
globals().update({cls.__name__: cls for cls in CLASSES.values()})
