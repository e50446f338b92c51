"""Intervals of scores by resampling the test images (Efron's bootstrap, percentiles)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

LEVEL = 0.95


def resamples(images: int, count: int, seed: int = 0) -> np.ndarray:
    """How often each image is in each resample, `(count, images)`; the same for every method that saw as many images."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=count)


def interval(samples: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of a score's resamples, of those that have a value; None where none has."""
    known = samples[np.isfinite(samples)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def with_intervals(values: Mapping[str, float | None], samples: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Scores, and for each that was resampled `<name>_low` and `<name>_high`."""
    extended = dict(values)
    for name, drawn in samples.items():
        found = interval(drawn)
        extended |= {f"{name}_low": None if found is None else found[0]}
        extended |= {f"{name}_high": None if found is None else found[1]}
    return extended


def differences(
    values: Mapping[str, Mapping[str, float | None]], samples: Mapping[str, Mapping[str, np.ndarray]], name: str
) -> list[dict[str, Any]]:
    """Each method's score minus the first method's on the same resamples, a row per method.

    Args:
        values: scores by method.
        samples: resampled scores by method, drawn by `resamples` with one seed.
        name: of the score.

    Returns:
        Rows of `method`, `against`, `score`, `difference`, `low`, `high`; methods without the score are left out.
    """
    methods = [method for method in values if values[method].get(name) is not None and name in samples.get(method, {})]
    rows = []
    for method in methods[1:]:
        drawn = samples[method][name] - samples[methods[0]][name]
        found = interval(drawn) or (None, None)
        change = values[method][name] - values[methods[0]][name]  # type: ignore[operator]
        keys = ("method", "against", "score", "difference", "low", "high")
        rows.append(dict(zip(keys, (method, methods[0], name, change, *found), strict=True)))
    return rows
