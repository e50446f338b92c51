"""Images as users hold them -> one batch of planes in 0..255."""

import functools
from typing import Any

import torch
from torch import Tensor

from fusion.errors import DataError
from fusion.images import as_batch, check_ranges
from fusion.metrics.conventions import Color
from fusion.metrics.triple import Triple

LUMA = (0.298936021293775, 0.587043074451121, 0.114020904255103)
"""Weights of Matlab's `rgb2gray`."""


def batches(a: Any, b: Any, fused: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Brings two sources and a fused image, or batches of them, into the form `(B, 1|3, H, W)` and checks them.

    The ranges of all three are read in one transfer, which is the only one that a GPU waits for.

    Raises:
        DataError: for shapes, types or values that `as_batch` refuses, or if sizes or batch sizes differ.
    """
    named = {"a": as_batch(a, "a"), "b": as_batch(b, "b"), "fused": as_batch(fused, "fused")}
    check_ranges(named)
    return check_triple(*named.values())


def gray_values(x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """What `as_batch` returns, as `dtype` in 0..255."""
    if x.is_floating_point():
        return x.to(dtype) * 255
    return x.to(dtype) / 257 if x.dtype == torch.uint16 else x.to(dtype)


def check_triple(a: Tensor, b: Tensor, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Checks that three batches `(B, C, H, W)` belong together; they may differ in channels and, by broadcast, in B.

    Raises:
        DataError: if sizes or batch sizes differ.
    """
    sizes = {"a": a, "b": b, "fused": fused}
    if len({x.shape[-2:] for x in sizes.values()}) > 1:
        listed = ", ".join(f"{n} {x.shape[-2]}x{x.shape[-1]}" for n, x in sizes.items())
        raise DataError(f"sizes differ (height x width): {listed}; metrics never resize, bring the images to one size")
    if len({x.shape[0] for x in sizes.values()}) > 1:
        listed = ", ".join(f"{n} {x.shape[0]}" for n, x in sizes.items())
        raise DataError(f"batch sizes differ: {listed}; expected as many sources as fused images")
    return a, b, fused


def round8(x: Tensor) -> Tensor:
    """Rounds half up to whole gray levels in 0..255 (no gradient passes)."""
    return (x + 0.5).floor().clamp(0, 255)


def luma(x: Tensor) -> Tensor:
    """`(B, 1|3, H, W)` -> `(B, H, W)` by Matlab's `rgb2gray` weights, unrounded; one channel passes as it is."""
    if x.shape[1] == 1:
        return x[:, 0]
    # in the weights' order rather than a matmul: the rounding of ties must not depend on a library's summation order
    return LUMA[0] * x[:, 0] + LUMA[1] * x[:, 1] + LUMA[2] * x[:, 2]


def color_policy(a: Tensor, b: Tensor, fused: Tensor, color: Color, gray: Color | None = None) -> Color:
    """The policy for three batches `(B, 1|3, H, W)`: luma where the fused image is gray, `gray` where the sources are."""
    if fused.shape[1] == 1:
        return "luma"
    return gray if gray is not None and a.shape[1] == b.shape[1] == 1 else color


def planes(
    a: Tensor, b: Tensor, fused: Tensor, color: Color, quantise: bool, dtype: torch.dtype = torch.float64
) -> tuple[Triple, int]:
    """Turns three batches into planes by a color policy.

    Args:
        a: `(B, 1|3, H, W)` as `as_batch` returns it.
        b: as `a`; may differ from it in channels. A single-channel source meets every channel of a color one.
        fused: as `a`.
        color: see `fusion.metrics.conventions.Color`; `color_policy` chooses it.
        quantise: round to 8 bits before, and luma after.
        dtype: type of the planes.

    Returns:
        The planes `(B * planes per image, H, W)`, and how many planes each image has.
    """
    triple = Triple(*(functools.partial(_planes_of, x, color, quantise, dtype) for x in (a, b, fused)))
    return triple, 3 if color == "channels" else 1


def _planes_of(image: Tensor, color: Color, quantise: bool, dtype: torch.dtype) -> Tensor:
    x = gray_values(image, dtype)
    if quantise and image.dtype != torch.uint8:
        x = round8(x)
    if color == "luma":
        return round8(luma(x)) if quantise and x.shape[1] == 3 else luma(x)
    if color == "real_luma":
        return luma(x)
    if color == "first":
        return x[:, 0]
    x = x.expand(-1, 3, -1, -1)
    return x.permute(0, 2, 1, 3).flatten(2) if color == "columns" else x.reshape(-1, *x.shape[-2:])
