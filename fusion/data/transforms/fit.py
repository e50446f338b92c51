"""Bring the second source onto the pixel grid of the first: contain, cover, stretch, or a known scale and offset."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from fusion.data.files.raster import Raster
from fusion.errors import ConfigError, DataError

FITS = ("contain", "cover", "stretch")
Fit = str | Sequence[float]


class Placement(NamedTuple):
    """Where the moved picture lies on the other's grid, in pixels.

    Attributes:
        top, left: of its upper left corner; negative where it reaches beyond the grid.
        height, width: its size there.
    """

    top: int
    left: int
    height: int
    width: int


class Overlap(NamedTuple):
    """The rectangle that both sources cover, in pixels: rows `top` to `bottom`, columns `left` to `right` (exclusive)."""

    top: int
    bottom: int
    left: int
    right: int


def check_fit(fit: Fit) -> Fit:
    """Refuse what is no fit.

    Raises:
        ConfigError: names what is known.
    """
    if isinstance(fit, str):
        if fit in FITS:
            return fit
    elif isinstance(fit, Sequence) and len(fit) == 3 and all(isinstance(x, int | float) for x in fit):
        scale, dx, dy = (float(x) for x in fit)
        if scale > 0:
            return [scale, dx, dy]
    raise ConfigError(
        f"fit={fit}: expected {', '.join(FITS)} or [scale,dx,dy]: its size in pixels of the other source, and where"
    )


def place(size: tuple[int, int], target: tuple[int, int], fit: Fit = "contain") -> Placement:
    """Where a picture goes.

    Args:
        size: its height and width.
        target: height and width of the grid.
        fit: "contain" as large as possible with all of it inside, centred; "cover" as small as possible with the grid
            covered, centred; "stretch" exactly the grid, changing its shape; `[scale, dx, dy]`: so many pixels of the grid
            per pixel, its upper left corner at column dx and row dy.
    """
    (height, width), (rows, columns) = size, target
    if not isinstance(fit, str):
        scale, dx, dy = fit
        return Placement(round(dy), round(dx), max(1, round(height * scale)), max(1, round(width * scale)))
    if fit == "stretch":
        return Placement(0, 0, rows, columns)
    pick = min if fit == "contain" else max
    scale = pick(rows / height, columns / width)
    new = [max(1, round(height * scale)), max(1, round(width * scale))]
    # Rounding of a camera's sizes is no change of shape: up to a pixel is taken up by the fit.
    new = [goal if abs(side - goal) <= 1 else side for side, goal in zip(new, target, strict=True)]
    return Placement((rows - new[0]) // 2, (columns - new[1]) // 2, new[0], new[1])


def fit_raster(raster: Raster, target: tuple[int, int], fit: Fit = "contain") -> tuple[Raster, Overlap]:
    """A picture resized onto a grid (bicubic, antialiased); outside it there is no data.

    Args:
        raster: the picture.
        target: height and width of the grid.
        fit: see `place`.

    Returns:
        The picture with the grid's size, `valid` False where it does not reach, and the rectangle that it covers.

    Raises:
        ConfigError: no such fit.
        DataError: a scale and offset that put it outside the grid.
    """
    where = place(raster.size, target, check_fit(fit))
    top, left = max(0, where.top), max(0, where.left)
    bottom, right = min(target[0], where.top + where.height), min(target[1], where.left + where.width)
    if bottom <= top or right <= left:
        raise DataError(f"{raster.path or 'picture'}: fit={list(fit)} puts it outside the other source")
    rows = slice(top - where.top, bottom - where.top)
    columns = slice(left - where.left, right - where.left)
    overlap = Overlap(top, bottom, left, right)

    def onto_grid(values: np.ndarray, empty: float) -> np.ndarray:
        grid = np.full((len(values), *target), empty, values.dtype)
        grid[:, top:bottom, left:right] = values[:, rows, columns]
        return grid

    size = (where.height, where.width)
    planes = onto_grid(resize_planes(raster.planes, size), 0)
    valid = onto_grid(resize_mask(raster.valid, raster.size, size)[None].astype(np.uint8), 0)[0].astype(bool)
    alpha = None if raster.alpha is None else onto_grid(resize_planes(raster.alpha[None], size), 0)[0]
    metadata = replace(raster.metadata, geo=(), dpi=None)  # of another grid
    fitted = replace(raster, planes=planes, alpha=alpha, valid=None if valid.all() else valid, metadata=metadata)
    return fitted, overlap


def resize_planes(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`(C, H, W)` of any type to another height and width, bicubic and antialiased, in its own type and range."""
    if planes.shape[1:] == size:
        return planes
    if planes.dtype == np.uint8:
        return F.resize(torch.from_numpy(planes), list(size), _BICUBIC, antialias=True).numpy()
    finite = np.nan_to_num(planes.astype(np.float32 if planes.dtype.itemsize <= 4 else np.float64))
    made = F.resize(torch.from_numpy(finite), list(size), _BICUBIC, antialias=True).numpy()
    low, high = float(finite.min()), float(finite.max())
    made = made.clip(low, high)  # bicubic overshoots
    return (np.rint(made) if planes.dtype.kind in "ui" else made).astype(planes.dtype)


_BICUBIC = F.InterpolationMode.BICUBIC


def resize_mask(mask: np.ndarray | None, old: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Where there is data after resizing: where a pixel draws on data alone."""
    if mask is None:
        return np.ones(size, bool)
    if old == size:
        return mask
    shares = F.resize(
        torch.from_numpy(mask[None].astype(np.float32)), list(size), F.InterpolationMode.BILINEAR, antialias=True
    )
    return shares[0].numpy() > 0.999


def crop_raster(raster: Raster, overlap: Overlap) -> Raster:
    """The part of a picture inside a rectangle; its geo-reference no longer holds."""
    rows, columns = slice(overlap.top, overlap.bottom), slice(overlap.left, overlap.right)

    def cut(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.ascontiguousarray(values[..., rows, columns])

    whole = (overlap.bottom - overlap.top, overlap.right - overlap.left) == raster.size
    metadata = raster.metadata if whole else replace(raster.metadata, geo=())
    planes = cut(raster.planes)
    assert planes is not None
    return replace(raster, planes=planes, alpha=cut(raster.alpha), valid=cut(raster.valid), metadata=metadata)
