"""Sources of different sizes, or out of register, on one pixel grid; and what both of them cover."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.data.files.raster import Raster
from fusion.data.transforms.alignment import alignment
from fusion.data.transforms.fit import Fit, Overlap, check_fit, fit_raster
from fusion.data.transforms.registration import check_register, register_raster
from fusion.errors import ConfigError, DataError

OUTSIDE = ("keep", "crop", "alpha")


@dataclass(frozen=True)
class Geometry:
    """How sources are brought onto one grid.

    Attributes:
        match_size: label of the source ("a", "b") whose grid the result has; None refuses different sizes.
        fit: how the others are put there, see `fusion.data.transforms.fit.place`.
        register: "none", "ecc" or "features", after the fit.
        motion: what registration may do: "translation", "rigid", "affine", "homography".
        overlap: what becomes of the part that not all sources cover: "keep" shows what there is, "crop" cuts it off, "alpha"
            makes it transparent.

    Raises:
        ConfigError: an unknown value.
    """

    match_size: str | None = None
    fit: Fit = "contain"
    register: str | None = "none"
    motion: str = "affine"
    overlap: str = "keep"

    def __post_init__(self) -> None:
        if self.match_size is not None and self.match_size not in ("a", "b"):
            raise ConfigError(f"match_size={self.match_size}: expected a, b or null")
        object.__setattr__(self, "fit", check_fit(self.fit))
        object.__setattr__(self, "register", check_register(self.register, self.motion))
        if self.overlap not in OUTSIDE:
            raise ConfigError(f"overlap={self.overlap}: expected one of {', '.join(OUTSIDE)}")


def size_message(rasters: Sequence[Raster]) -> str:
    """Says which sizes differ, and what can be done."""
    first = {raster.size: raster for raster in reversed(rasters)}
    shown = rasters if len(rasters) == 2 else [raster for raster in rasters if first[raster.size] is raster][:4]
    sizes = " and ".join(f"{r.path or 'a picture'} is {r.size[1]}x{r.size[0]}" for r in shown)
    what, others = ("pair", "b") if len(rasters) == 2 else ("scene", "the others")
    return (
        f"Images of one {what} must have the same size (width x height): {sizes}; align them, or set match_size=a "
        f"(fit {others} into a; fit=contain, cover, stretch or [scale,dx,dy]) or match_size=b."
    )


def on_one_grid(
    rasters: Sequence[Raster], geometry: Geometry | None = None, labels: Sequence[str] = ("a", "b"), check: bool = False
) -> tuple[list[Raster], list[str]]:
    """Fit and register sources onto the grid of one of them.

    Args:
        rasters: two or more sources.
        geometry: how; None refuses different sizes.
        labels: names of the sources.
        check: say which sources do not lie on the first one, where this can be told.

    Returns:
        The sources with one size, and lines for the user.

    Raises:
        DataError: different sizes without `match_size`.
    """
    geometry = geometry or Geometry()
    result, notes = list(rasters), []
    wanted = geometry.match_size
    base = list(labels).index(wanted) if wanted is not None and wanted in labels else 0
    target = result[base]
    if len({raster.size for raster in result}) > 1 and geometry.match_size is None:
        raise DataError(size_message(result))
    for index, raster in enumerate(result):
        if index == base:
            continue
        if raster.size != target.size or not isinstance(geometry.fit, str):
            result[index], overlap = fit_raster(raster, target.size, geometry.fit)
            if (overlap.bottom - overlap.top, overlap.right - overlap.left) != target.size:
                share = (
                    (overlap.bottom - overlap.top) * (overlap.right - overlap.left) / (target.size[0] * target.size[1])
                )
                notes.append(
                    f"{labels[index]} covers columns {overlap.left} to {overlap.right}, rows {overlap.top} to {overlap.bottom} "
                    f"of {labels[base]}, {100 * share:.0f} % of it; the rest shows {labels[base]} alone "
                    "(overlap=crop cuts it off, overlap=alpha makes it transparent)"
                )
        if geometry.register != "none":
            result[index], said = register_raster(target, result[index], str(geometry.register), geometry.motion)
            notes += said
        elif check and (line := misaligned(target, result[index], labels[index])):
            notes.append(line)
    return result, notes


def misaligned(a: Raster, b: Raster, label: str = "b") -> str | None:
    """One line if two pictures of one size visibly do not lie on top of each other."""
    found = alignment(a.planes, _without_gaps(b))
    if not found.is_off(a.size):
        return None
    return (
        f"warning: {b.path or label} does not lie on {a.path or 'a'}: displaced by about ({found.dx:.0f}, {found.dy:.0f}) pixels, "
        f"alignment score {found.score:.2f}; register=ecc aligns it"
    )


def _without_gaps(raster: Raster) -> np.ndarray:
    if raster.valid is None or not raster.valid.any():
        return raster.planes
    mean = raster.planes[:, raster.valid].mean()
    return np.where(raster.valid, raster.planes, raster.planes.dtype.type(mean))


def inner_rectangle(mask: np.ndarray) -> Overlap:
    """A large rectangle inside a mask: the side with the largest share of False is cut until none is left."""
    top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    while bottom - top > 1 and right - left > 1:
        part = mask[top:bottom, left:right]
        shares = [(~edge).mean() for edge in (part[0], part[-1], part[:, 0], part[:, -1])]
        worst = int(np.argmax(shares))
        if shares[worst] == 0:
            if part.all():
                break
            worst = int(np.argmin([part[:, :1].size, part[:, :1].size, part[:1].size, part[:1].size]))
        top, bottom, left, right = (
            top + (worst == 0), bottom - (worst == 1), left + (worst == 2), right - (worst == 3),
        )  # fmt: skip
    return Overlap(top, bottom, left, right)
