"""From images to numbers: `compute` for batches, `score` for one triple."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import torch
from torch import Tensor

from fusion.errors import ConfigError, DataError
from fusion.metrics.conventions import Color
from fusion.metrics.inputs import batches, color_policy, planes
from fusion.metrics.registry import Variant, info
from fusion.metrics.triple import Triple

DTYPES = (torch.float64, torch.float32)
MIN_SIDE = 12
"""Smallest height and width in pixels: the 11 x 11 windows of the structure metrics must fit."""


@dataclass(frozen=True)
class MetricKey:
    """One column of a table: a metric, the convention it is computed in, and the color policy if not that one's own.

    Written `qabf`, `qabf@vifb` or `qabf@vifb:luma`.
    """

    name: str
    convention: str = "exact"
    color: Color | None = None

    @classmethod
    def parse(cls, text: str, convention: str = "exact", color: Color | None = None) -> "MetricKey":
        """Reads `name[@convention][:color]`; what is not written comes from the arguments.

        Raises:
            ConfigError: for an unknown metric, convention or color policy, or a metric that the convention lacks.
        """
        head, _, own_color = str(text).partition(":")
        name, _, own_convention = head.partition("@")
        chosen = own_color or color
        if chosen is not None and chosen not in get_args(Color):
            raise ConfigError(
                f"metric '{text}': color '{chosen}' is not known; choose one of: {', '.join(get_args(Color))}"
            )
        key = cls(name.strip(), own_convention.strip() or convention, cast(Color | None, chosen))
        info(key.name).variant(key.convention)
        return key

    def __str__(self) -> str:
        return f"{self.name}@{self.convention}" + (f":{self.color}" if self.color else "")

    @property
    def variant(self) -> Variant:
        """The function, with the color policy in force."""
        found = info(self.name).variant(self.convention)
        return replace(found, color=self.color, gray=None) if self.color else found


def check_metrics(names: Iterable[str], convention: str) -> None:
    """Refuse unknown metrics, conventions and color policies.

    Raises:
        ConfigError: names the known ones.
    """
    for name in names:
        MetricKey.parse(name, convention)


def compute(
    a: Tensor,
    b: Tensor,
    fused: Tensor,
    names: Sequence[str],
    convention: str = "exact",
    *,
    color: Color | None = None,
    dtype: torch.dtype = torch.float64,
    rounded: bool = True,
) -> dict[str, Tensor]:
    """Metrics of a batch of fused images.

    Gradients reach the images through metrics whose `info(name).differentiable` is true, in convention `exact`, and in most
    others where `rounded` is false. They are finite on flat areas and for identical images, except where the value itself is
    infinite (PSNR of identical images).

    Args:
        a: first sources `(B, 1|3, H, W)`, uint8 or floating point in [0, 1]; any form that
            `fusion.images.as_batch` takes.
        b: second sources; may have another number of channels.
        fused: fused images; where they are gray, color sources are scored by their luma.
        names: metrics, each as `name`, `name@convention` or `name@convention:color`.
        convention: for names that state none.
        color: overrides the color policy of the convention for names that state none.
        dtype: of the values: float64, which agrees with the toolboxes, or float32, within 1e-3 of it. Metrics whose
            `info(name).variant(convention).double` is true compute in float64 either way: local variances, edge ties
            and cancelling sums have no trustworthy float32 form. The others take half the memory in float32; whether
            that is faster depends on the device.

    Returns:
        One tensor `(B,)` of type `dtype` per entry of `names`, in their order, keyed as written there.

    Raises:
        ConfigError: for an unknown metric, convention, color policy or `dtype`.
        DataError: for images of unequal size, smaller than 12 x 12 pixels, or out of range.

    >>> import torch
    >>> a, b = torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)
    >>> values = compute(a, b, (a + b) / 2, ["mse", "ssim@vifb"])
    >>> values["mse"]
    tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: metrics compute in torch.float64 or torch.float32, not {dtype}")
    keys = {text: MetricKey.parse(text, convention, color) for text in names}
    images = batches(a, b, fused)
    height, width = images[0].shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise DataError(
            f"an image of {height}x{width} pixels is too small; metrics need at least {MIN_SIDE}x{MIN_SIDE}"
        )
    # shared, so that metrics share histograms and moments
    prepared: dict[tuple[Color, bool, torch.dtype], tuple[Triple, int]] = {}
    values: dict[str, Tensor] = {}
    for text, key in keys.items():
        how = key.variant
        wanted = (
            color_policy(*images, how.color, how.gray),
            how.quantise and rounded,
            torch.float64 if how.double else dtype,
        )
        if wanted not in prepared:
            prepared[wanted] = planes(*images, *wanted)
        triple, channels = prepared[wanted]
        value = how.function(triple)
        values[text] = (value.reshape(-1, channels).mean(1) if channels > 1 else value).to(dtype)
    return values


@torch.no_grad()
def score(
    a: Any,
    b: Any,
    fused: Any,
    metrics: Sequence[str] | str,
    convention: str = "exact",
    *,
    color: Color | None = None,
    dtype: torch.dtype = torch.float64,
) -> dict[str, float]:
    """Metrics of one fused image.

    Args:
        a: first source, `(H, W)` or `(H, W, 3)` array, or `(1|3, H, W)` tensor; uint8 or floating point in [0, 1].
        b: second source; may have another number of channels.
        fused: fused image.
        metrics: names as in `compute`, or one name.
        convention: for names that state none: exact, vifb, mefb, liu, tang or tang_legacy.
        color: overrides the convention's color policy.
        dtype: as in `compute`.

    Returns:
        One number per name, keyed as written in `metrics`.

    Raises:
        ConfigError: for an unknown metric, convention or color policy.
        DataError: for images of unequal size, smaller than 12 x 12 pixels, or out of range, or a batch of several.

    >>> import numpy as np
    >>> a, b = np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)
    >>> score(a, b, (a + b) // 2, ["en", "mi@tang"])
    {'en': 0.0, 'mi@tang': 0.0}
    """
    wanted = [metrics] if isinstance(metrics, str) else list(metrics)
    values = compute(a, b, fused, wanted, convention, color=color, dtype=dtype)
    if any(v.numel() != 1 for v in values.values()):
        raise DataError("score takes one triple; use fusion.metrics.compute for a batch")
    numbers = torch.stack(list(values.values())).flatten().tolist() if values else []  # in one transfer
    return {name: number + 0.0 for name, number in zip(values, numbers, strict=True)}  # turns -0.0 into 0.0
