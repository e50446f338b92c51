"""Every metric of image fusion, batched, in the conventions of the toolboxes that the field publishes with."""

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
from fusion.metrics.compute import MetricKey, compute, score
from fusion.metrics.conventions import CONVENTIONS, Convention, get_convention
from fusion.metrics.registry import MetricInfo, info, metric, names, variant
from fusion.metrics.suites import Column, Suite

__all__ = [
    "CONVENTIONS",
    "Column",
    "Convention",
    "MetricInfo",
    "MetricKey",
    "Suite",
    "compute",
    "get_convention",
    "info",
    "metric",
    "names",
    "score",
    "variant",
]
