"""Curves of the gates between branches over a training run (GIFNet supplement, Fig. 4)."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.analysis.figures import grid, save
from fusion.errors import ConfigError, DataError
from fusion.files import write_csv

PREFIX = "gate/"


def gates(folder: Path, out: Path, options: Mapping[str, Any]) -> list[Path]:
    """Read a run's `metrics.csv` and write `gates.csv` and `gates.png`.

    Args:
        folder: run folder of a training.
        out: run folder for the table and the figure.
        options: `smooth`: logged values that a moving average covers; 1 shows them as they are.

    Raises:
        DataError: no metrics there, or none of a gate.
        ConfigError: an impossible option.
    """
    smooth = options.get("smooth", 1)
    if not isinstance(smooth, int) or smooth < 1:
        raise ConfigError(f"gates.smooth={smooth}: expected a whole number of at least 1")
    curves = read_curves(folder)
    rows = [{"gate": name, "step": step, "value": value} for name, points in curves.items() for step, value in points]
    return [write_csv(out / "gates.csv", rows), _draw(curves, smooth, out / "gates.png")]


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every gate, by name.

    Raises:
        DataError: see `gates`.
    """
    path = folder / "metrics.csv"
    if not path.is_file():
        raise DataError(f"dir={folder}: no metrics.csv there; expected the folder of a training with logger=csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [key for key in (rows[0] if rows else {}) if key and key.startswith(PREFIX)]
    curves = {
        name.removeprefix(PREFIX): [
            (int(row["step"]), float(row[name])) for row in rows if row.get(name) and math.isfinite(float(row[name]))
        ]
        for name in names
    }
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        raise DataError(f"{path}: no column {PREFIX}*; expected the run of a model with gates, such as gifnet")
    return curves


def moving_average(values: list[float], width: int) -> list[float]:
    """Mean over the last `width` values, fewer at the start."""
    return [math.fsum(values[max(0, i + 1 - width) : i + 1]) / min(width, i + 1) for i in range(len(values))]


def _draw(curves: Mapping[str, list[tuple[int, float]]], smooth: int, path: Path) -> Path:
    figure, axes = grid(1, 1, (6.0, 3.6))
    ax = axes[0, 0]
    for name, points in curves.items():
        steps, values = (list(column) for column in zip(*points, strict=True))
        averaged = moving_average(values, smooth)
        ax.plot(steps, averaged, marker="." if len(steps) < 40 else "", label=f"{name} (ends at {averaged[-1]:.3f})")
    ax.set(xlabel="optimiser step", ylabel="factor of the gate")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    return save(figure, path)
