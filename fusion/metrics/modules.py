"""torchmetrics classes: running means over batches and processes, and the per-image table behind them."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from fusion.errors import DataError
from fusion.metrics.compute import MetricKey, compute
from fusion.metrics.conventions import Color
from fusion.metrics.registry import class_name, info, names
from fusion.ranks import gather_images


class FusionMetrics(Metric):
    """Means of several metrics over a data set; metrics of one update share their planes, histograms and moments.

    With sample ids, each image counts once however often a distributed sampler repeats it, and `table()` gives the
    values per image. Without ids the sums are reduced, and repeated images count repeatedly.

    Args:
        metrics: names as `fusion.metrics.compute` takes them.
        convention: for names that state none.
        color: overrides the convention's color policy for names that state none.
        dtype: as in `fusion.metrics.compute`.
        **kwargs: further arguments of `torchmetrics.Metric`.

    Raises:
        ConfigError: for an unknown metric, convention or color policy.

    >>> import torch
    >>> from fusion.metrics import FusionMetrics
    >>> metrics = FusionMetrics(["mse", "sd@tang"])
    >>> a, b = torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)
    >>> metrics.update(a, b, (a + b) / 2, ids=["street", "forest"])
    >>> metrics.compute()
    {'mse': tensor(0.2500, dtype=torch.float64), 'sd@tang': tensor(0., dtype=torch.float64)}
    >>> table = metrics.table()
    >>> list(table), round(table["forest"]["mse"], 3)
    (['forest', 'street'], 0.25)
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
        color: Color | None = None,
        dtype: torch.dtype = torch.float64,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.metrics = list(metrics)
        self.convention, self.color, self.compute_dtype = convention, color, dtype
        for text in self.metrics:
            MetricKey.parse(text, convention, color)
        self.add_state("total", torch.zeros(len(self.metrics), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self._rows: dict[str, Tensor] = {}
        self._images = 0  # of this process; the state `count` would make a GPU wait

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
            values = compute(a, b, fused, self.metrics, self.convention, color=self.color, dtype=self.compute_dtype)
        rows = torch.stack(list(values.values()), 1).double()  # (B, K)
        if ids is not None and len(ids) != len(rows):
            raise DataError(f"{len(ids)} ids for {len(rows)} images; give one id per image")
        if self._images and (ids is None) == bool(self._rows):
            raise DataError("ids were given for some batches only; give them for all or for none")
        if ids is not None:
            self._rows.update(zip(ids, rows, strict=True))
        self.total += rows.sum(0)
        self.count += len(rows)
        self._images += len(rows)

    def compute(self) -> dict[str, Tensor]:
        """Mean of each metric over the images of all processes, scalars keyed as in `metrics`; NaN before any image."""
        rows = list(self._gathered().values())
        mean = torch.stack(rows).mean(0) if rows else self.total / self.count
        return dict(zip(self.metrics, mean, strict=True))

    def table(self) -> dict[str, dict[str, float]]:
        """Values per image of all processes, `{id: {metric: value}}` in the order of ids; empty without ids."""
        rows = self._gathered()
        return {name: dict(zip(self.metrics, row.tolist(), strict=True)) for name, row in rows.items()}

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self._rows, self._images = {}, 0

    def _gathered(self) -> dict[str, Tensor]:
        values = torch.stack(list(self._rows.values())).tolist() if self._rows else []  # in one transfer
        merged = gather_images(zip(self._rows, values, strict=True))
        return {name: torch.tensor(row, dtype=torch.float64, device=self.total.device) for name, row in merged.items()}


class FusionMetric(FusionMetrics):
    """One metric as a torchmetrics class; `compute()` gives a scalar. `fusion.metrics` has a subclass for each of them.

    Args:
        convention: exact, vifb, mefb, liu, tang or tang_legacy; the metric must be part of it.
        **kwargs: `color` and `dtype` as in `FusionMetrics`, and further arguments of `torchmetrics.Metric`.

    Raises:
        ConfigError: for an unknown convention or color policy, or a convention without the metric.

    >>> import torch
    >>> from torchmetrics import MetricCollection
    >>> from fusion.metrics import Mse, Sd
    >>> metrics = MetricCollection({"MSE": Mse(), "SD": Sd("tang")})
    >>> a, b = torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)
    >>> metrics.update(a, b, (a + b) / 2)
    >>> metrics.compute()
    {'MSE': tensor(0.2500, dtype=torch.float64), 'SD': tensor(0., dtype=torch.float64)}
    """

    name: str

    def __init__(self, convention: str = "exact", **kwargs: Any) -> None:
        super().__init__([self.name], convention, **kwargs)

    def compute(self) -> Tensor:  # type: ignore[override]
        """Mean over the images of all processes, a scalar."""
        return super().compute()[self.metrics[0]]


@functools.cache
def metric_class(name: str) -> type[FusionMetric]:
    """The torchmetrics class of a metric, documented by its registry entry.

    Args:
        name: name of a registered metric; `ms_ssim` has the class `fusion.metrics.MsSsim`.

    Raises:
        ConfigError: for an unknown name.

    >>> from fusion.metrics import MsSsim, metric_class
    >>> metric_class("ms_ssim") is MsSsim
    True
    """
    known = info(name)
    low, high = known.bounds
    doc = (
        f"{known.symbol}: {known.title} ({'higher' if known.higher_is_better else 'lower'} is better).\n\n"
        f"{known.describe()}\n\nRange: {'-inf' if low is None else low} to {'inf' if high is None else high} "
        f"(exact). Source: {known.source}. Conventions: {', '.join(known.variants)}.\n"
    )
    fields = {"name": name, "__doc__": doc, "__module__": __name__, "higher_is_better": known.higher_is_better}
    return type(class_name(name), (FusionMetric,), fields)


def __getattr__(name: str) -> type[FusionMetric]:
    """The classes by their names, also of metrics that were registered later: pickles look them up here."""
    for known in names():
        if class_name(known) == name:
            return metric_class(known)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
