"""Drawing with matplotlib, without a display. Slow to import, it is imported when a figure is made, not before."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fusion.files import atomic

MAX_INCHES = 60.0
"""Longest side of a figure: beyond, the backend refuses."""


def grid(rows: int, columns: int, cell: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """A figure with a grid of axes.

    Args:
        rows: number of rows.
        columns: number of columns.
        cell: width and height of a cell in inches.
        options: those of `Figure.subplots`.

    Returns:
        Figure, and its axes as an array `(rows, columns)`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = min(MAX_INCHES, columns * cell[0]), min(MAX_INCHES, rows * cell[1])
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def save(figure: Any, path: Path, dpi: int = 130) -> Path:
    """Write a figure as PNG, whole or not at all."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")
    return path


def show_image(axes: Any, image: Tensor, title: str = "") -> None:
    """Draw a `(3 or 1, H, W)` image in [0, 1] without ticks."""
    array = image.detach().float().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
    axes.imshow(array, interpolation="nearest")
    _bare(axes, title)


def show_map(axes: Any, values: Tensor, title: str = "", **options: Any) -> Any:
    """Draw a `(h, w)` map, one square per token, without ticks; returns what a color bar needs."""
    drawn = axes.imshow(values.detach().float().cpu().numpy(), interpolation="nearest", **options)
    _bare(axes, title)
    return drawn


def expert_colors(count: int) -> np.ndarray:
    """One color per expert, `(count, 4)`: distinct up to 20 experts, along a color wheel beyond."""
    from matplotlib import colormaps

    if count <= 10:
        return colormaps["tab10"](np.arange(count))
    return colormaps["tab20"](np.arange(count)) if count <= 20 else colormaps["hsv"](np.linspace(0, 0.95, count))


def legend(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend for all axes, below them."""
    figure.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)), fontsize=8, frameon=False)


def file_stem(*parts: str) -> str:
    """Parts joined to a file name that every file system takes."""
    return re.sub(r"[^\w.-]+", "-", "_".join(parts)).strip("-.")


def _bare(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
