"""From images to numbers: `compute` for batches, `score` for one triple."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import torch
from torch import Tensor

from fusion.errors import ConfigError, DataError
from fusion.metrics.conventions import Colour
from fusion.metrics.inputs import as_batch, check_triple, planes
from fusion.metrics.registry import Variant, info
from fusion.metrics.triple import Triple

MIN_SIDE = 12
"""Smallest height and width in pixels: the 11 x 11 windows of the structure metrics must fit."""


@dataclass(frozen=True)
class MetricKey:
    """One column of a table: a metric, the convention it is computed in, and the colour policy if not that one's own.

    Written `qabf`, `qabf@vifb` or `qabf@vifb:luma`.
    """

    name: str
    convention: str = "exact"
    colour: Colour | None = None

    @classmethod
    def parse(cls, text: str, convention: str = "exact", colour: Colour | None = None) -> "MetricKey":
        """Reads `name[@convention][:colour]`; what is not written comes from the arguments.

        Raises:
            ConfigError: for an unknown metric, convention or colour policy, or a metric that the convention lacks.
        """
        head, _, own_colour = str(text).partition(":")
        name, _, own_convention = head.partition("@")
        chosen = own_colour or colour
        if chosen is not None and chosen not in get_args(Colour):
            raise ConfigError(
                f"metric '{text}': colour '{chosen}' is not known; choose one of: {', '.join(get_args(Colour))}"
            )
        key = cls(name.strip(), own_convention.strip() or convention, cast(Colour | None, chosen))
        info(key.name).variant(key.convention)
        return key

    def __str__(self) -> str:
        return f"{self.name}@{self.convention}" + (f":{self.colour}" if self.colour else "")

    @property
    def variant(self) -> Variant:
        """The function, with the colour policy in force."""
        found = info(self.name).variant(self.convention)
        return Variant(found.function, self.colour or found.colour, found.quantise)


def compute(
    a: Tensor,
    b: Tensor,
    fused: Tensor,
    names: Sequence[str],
    convention: str = "exact",
    *,
    colour: Colour | None = None,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """Metrics of a batch of fused images.

    Gradients reach the images through metrics whose `info(name).differentiable` is true, in convention `exact`.

    Args:
        a: first sources `(B, 1|3, H, W)`, uint8 or floating point in [0, 1]; any form that `as_batch` takes.
        b: second sources; may have another number of channels.
        fused: fused images.
        names: metrics, each as `name`, `name@convention` or `name@convention:colour`.
        convention: for names that state none.
        colour: overrides the colour policy of the convention for names that state none.
        dtype: of the computation. float64 agrees with the toolboxes; float32 is faster on most GPUs.

    Returns:
        One tensor `(B,)` of type `dtype` per entry of `names`, in their order, keyed as written there.

    Raises:
        ConfigError: for an unknown metric, convention or colour policy.
        DataError: for images of unequal size, smaller than 12 x 12 pixels, or out of range.
    """
    keys = {text: MetricKey.parse(text, convention, colour) for text in names}
    images = check_triple(as_batch(a, "a"), as_batch(b, "b"), as_batch(fused, "fused"))
    height, width = images[0].shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise DataError(
            f"an image of {height}x{width} pixels is too small; metrics need at least {MIN_SIDE}x{MIN_SIDE}"
        )
    prepared: dict[tuple[str, bool], tuple[Triple, int]] = {}  # shared, so that metrics share histograms and moments
    values: dict[str, Tensor] = {}
    for text, key in keys.items():
        how = key.variant
        if (how.colour, how.quantise) not in prepared:
            prepared[how.colour, how.quantise] = planes(*images, how.colour, how.quantise, dtype)
        triple, channels = prepared[how.colour, how.quantise]
        value = how.function(triple)
        values[text] = value.reshape(-1, channels).mean(1) if channels > 1 else value
    return values


@torch.no_grad()
def score(
    a: Any,
    b: Any,
    fused: Any,
    metrics: Sequence[str] | str,
    convention: str = "exact",
    *,
    colour: Colour | None = None,
    dtype: torch.dtype = torch.float64,
) -> dict[str, float]:
    """Metrics of one fused image.

    Args:
        a: first source, `(H, W)` or `(H, W, 3)` array, or `(1|3, H, W)` tensor; uint8 or floating point in [0, 1].
        b: second source; may have another number of channels.
        fused: fused image.
        metrics: names as in `compute`, or one name.
        convention: for names that state none: exact, vifb, mefb, liu, tang or tang_legacy.
        colour: overrides the convention's colour policy.
        dtype: of the computation.

    Returns:
        One number per name, keyed as written in `metrics`.

    Raises:
        ConfigError: for an unknown metric, convention or colour policy.
        DataError: for images of unequal size, smaller than 12 x 12 pixels, or out of range, or a batch of several.
    """
    wanted = [metrics] if isinstance(metrics, str) else list(metrics)
    values = compute(a, b, fused, wanted, convention, colour=colour, dtype=dtype)
    if any(v.numel() != 1 for v in values.values()):
        raise DataError("score takes one triple; use fusion.metrics.compute for a batch")
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Tensor) -> float:
    return float(value) + 0.0  # turns -0.0 into 0.0
