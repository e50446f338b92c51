"""Curves of a sweep in the style of TC-MoA's Fig. 8: a row per metric, a column per swept key, seeds as error bars."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from fusion.analysis.figures import grid, save
from fusion.analysis.sweep_jobs import Job, order

MAX_LINES = 10
"""Curves that a panel names; more are drawn in grey."""


def sweep_figure(jobs: Sequence[Job], keys: Sequence[str], metrics: Sequence[str], averaged: Sequence[str]) -> Any:
    """The figure, to be saved or shown.

    Args:
        jobs: those with numbers.
        keys: swept keys; those in `averaged` get no column.
        metrics: a row each.
        averaged: keys whose values are averaged, with their standard deviation as error bar.

    Returns:
        A matplotlib figure.
    """
    columns = [key for key in keys if key not in averaged] or list(keys) or ["job"]
    averaged = [key for key in averaged if key not in columns]
    figure, axes = grid(len(metrics), len(columns), (4.2, 2.8))
    for c, key in enumerate(columns):
        values = sorted({json.dumps(_x(job, key)) for job in jobs}, key=lambda text: order(json.loads(text)))
        others = [other for other in columns if other != key]
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            name = ", ".join(f"{short(other)}={_x(job, other)}" for other in others)
            groups.setdefault(name, []).append(job)
        named = len(groups) <= MAX_LINES
        scattered = _scattered([json.loads(text) for text in values])
        for r, metric in enumerate(metrics):
            ax = axes[r, c]
            for index, (label, members) in enumerate(groups.items() if not scattered else ()):
                _curve(ax, members, key, values, metric, label if named else None, index / max(1, len(groups) - 1))
            if scattered:
                _points(ax, jobs, key, metric)
            else:
                ax.set_xticks(range(len(values)), [str(json.loads(text)) for text in values], fontsize=8)
                ax.set_xlim(-0.4, len(values) - 0.6)
            ax.set_xlabel(key, fontsize=8)
            ax.set_title(metric, fontsize=9)
            ax.tick_params(axis="y", labelsize=8)
            ax.ticklabel_format(axis="y", useOffset=False)
            ax.grid(alpha=0.3)
            if r == len(metrics) - 1 and others and named and not scattered:
                ax.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    if averaged and any(_repeated(jobs, keys, averaged)):
        names = ", ".join(short(key) for key in averaged)
        figure.suptitle(f"mean over {names}; bars: standard deviation", fontsize=8)
    return figure


def draw_sweep(
    jobs: Sequence[Job], keys: Sequence[str], metrics: Sequence[str], averaged: Sequence[str], path: Path
) -> Path:
    """Write the figure of `sweep_figure` as PNG."""
    return save(sweep_figure(jobs, keys, metrics, averaged), path)


def short(key: str) -> str:
    """The last part of a dotted key."""
    return key.rsplit(".", 1)[-1]


def _curve(
    ax: Any, jobs: Sequence[Job], key: str, values: Sequence[str], metric: str, label: str | None, shade: float
) -> None:
    points: dict[int, list[float]] = {}
    for job in jobs:
        if metric in job.metrics and math.isfinite(job.metrics[metric]):
            points.setdefault(values.index(json.dumps(_x(job, key))), []).append(job.metrics[metric])
    places = sorted(points)
    style = {"label": label} if label is not None else {"color": "0.7"}
    spread = [stdev(points[place]) if len(points[place]) > 1 else 0.0 for place in places]
    shifted = [place + (shade - 0.5) * 0.16 for place in places] if any(spread) else places
    ax.errorbar(
        shifted,
        [fmean(points[place]) for place in places],
        yerr=spread if any(spread) else None,
        fmt="o-",
        markersize=4,
        linewidth=1.2,
        capsize=2,
        elinewidth=0.9,
        **style,
    )


def _scattered(values: Sequence[Any]) -> bool:
    """Whether a key's values are numbers off a search rather than a few settings."""
    return len(values) > MAX_LINES and all(isinstance(value, int | float) for value in values)


def _points(ax: Any, jobs: Sequence[Job], key: str, metric: str) -> None:
    found = [(float(_x(job, key)), job.metrics[metric]) for job in jobs if metric in job.metrics]
    ax.plot([x for x, _ in found], [y for _, y in found], "o", markersize=4)
    low, high = min(x for x, _ in found), max(x for x, _ in found)
    if low > 0 and high / low > 30:
        ax.set_xscale("log")
    ax.tick_params(axis="x", labelsize=8)


def _repeated(jobs: Sequence[Job], keys: Sequence[str], averaged: Sequence[str]) -> list[bool]:
    fixed = [key for key in keys if key not in averaged]
    settings = [json.dumps([job.value(key) for key in fixed]) for job in jobs]
    return [settings.count(setting) > 1 for setting in set(settings)]


def _x(job: Job, key: str) -> Any:
    return job.name if key == "job" else job.value(key)
