"""Every metric of image fusion, batched, in the conventions of the toolboxes that the field publishes with.

`score` takes one fused image, `compute` a batch, and each metric is a torchmetrics class besides, named after it: `Qabf`,
`MsSsim`, or several together as `FusionMetrics`.

>>> import torch
>>> from fusion.metrics import MsSsim, Qabf, score
>>> a, b = torch.zeros(3, 48, 64), torch.ones(3, 48, 64)
>>> {name: round(value, 3) for name, value in score(a, b, (a + b) / 2, ["mse", "psnr@tang"]).items()}
{'mse': 0.25, 'psnr@tang': 54.151}
>>> Qabf("vifb").higher_is_better
True
"""

import importlib
from typing import TYPE_CHECKING, Any

from fusion.metrics import (  # noqa: F401  (each registers its metrics)
    exposure,
    feature_information,
    fidelity,
    gradient,
    information,
    perception,
    phase_congruency,
    quality_index,
    statistics,
    structure,
    wavelet,
)
from fusion.metrics.compute import MetricKey, check_metrics, compute, score
from fusion.metrics.conventions import CONVENTIONS, Convention, get_convention
from fusion.metrics.registry import MetricInfo, class_name, info, metric, names, variant
from fusion.metrics.suites import Column, Suite

if TYPE_CHECKING:
    from fusion.metrics.modules import FusionMetric, FusionMetrics, metric_class

__all__ = [
    "CONVENTIONS",
    "Column",
    "Convention",
    "FusionMetric",
    "FusionMetrics",
    "MetricInfo",
    "MetricKey",
    "Suite",
    "check_metrics",
    "compute",
    "get_convention",
    "info",
    "metric",
    "metric_class",
    "names",
    "score",
    "variant",
]


def __getattr__(name: str) -> Any:
    """The torchmetrics classes, which are imported when one is asked for."""
    if name in ("FusionMetric", "FusionMetrics", "metric_class") or name in map(class_name, names()):
        return getattr(importlib.import_module("fusion.metrics.modules"), name)
    raise AttributeError(f"module 'fusion.metrics' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *map(class_name, names())})
