"""Decoded pictures of a pair on one grid, as `fit` says."""

import warnings
from typing import Literal

import numpy as np
import torch

from fusion.data.files.image import Picture, resize
from fusion.data.files.raster import Raster
from fusion.data.transforms.fit import Fit, fit_raster, place


def fit_pictures(
    a: Picture, b: Picture, match_size: Literal["a", "b"], fit: Fit = "contain", label: str = "b"
) -> tuple[Picture, Picture]:
    """Bring one picture of a pair onto the other's grid; where it does not reach it shows the other.

    Args:
        a, b: the pictures.
        match_size: whose grid.
        fit: see `fusion.data.transforms.fit.place`.
        label: of the pair in the warning where a part is not covered.

    Raises:
        DataError: a scale and offset that put it outside.
    """
    base, moved = (a, b) if match_size == "a" else (b, a)
    size, target = moved.pixels.shape[-2:], base.pixels.shape[-2:]
    if isinstance(fit, str) and size == target:
        return a, b
    goal = (int(target[0]), int(target[1]))
    if tuple(place((int(size[0]), int(size[1])), goal, fit)) == (0, 0, *goal):
        fitted = moved._replace(pixels=resize(moved.pixels, target))
    else:
        planes = (moved.pixels[:1] if moved.is_gray else moved.pixels).numpy()
        raster, overlap = fit_raster(Raster(planes, "gray" if moved.is_gray else "rgb", (0.0, 255.0)), goal, fit)
        share = (overlap.bottom - overlap.top) * (overlap.right - overlap.left) / (goal[0] * goal[1])
        warnings.warn(
            f"{label}: covers {100 * share:.0f} % of the other source's grid, the rest shows that alone (match_size, fit)",
            stacklevel=4,
        )
        pixels = raster.planes
        if raster.valid is not None:
            other = base.pixels.numpy()
            shown = other.mean(0, keepdims=True).round().astype(np.uint8) if moved.is_gray else other
            pixels = np.where(raster.valid, pixels, shown)
        fitted = moved._replace(pixels=torch.from_numpy(np.ascontiguousarray(pixels)).expand(3, -1, -1))
    return (a, fitted) if match_size == "a" else (fitted, b)
