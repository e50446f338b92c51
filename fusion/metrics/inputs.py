"""Images as users hold them -> one batch of planes in 0..255."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.errors import DataError
from fusion.metrics.conventions import Colour
from fusion.metrics.triple import Triple

LUMA = (0.298936021293775, 0.587043074451121, 0.114020904255103)
"""Weights of Matlab's `rgb2gray`."""


def as_batch(image: Any, name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """Brings an image or a batch of images into one form.

    Args:
        image: array `(H, W)` or `(H, W, 1|3)`, or tensor `(H, W)`, `(1|3, H, W)` or `(B, 1|3, H, W)`; uint8 in 0..255,
            uint16 in 0..65535 or floating point in [0, 1].
        name: how messages call it.
        dtype: of the result.

    Returns:
        `(B, 1|3, H, W)` in 0..255, on the image's device.

    Raises:
        DataError: for another shape, another type, or floating-point values outside [0, 1].
    """
    if isinstance(image, Tensor):
        x = image
        if x.ndim == 2:
            x = x[None]
        if x.ndim == 3:
            x = x[None]
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise DataError(
                f"{name}: a tensor of shape {tuple(image.shape)} is not an image; "
                "expected (H, W), (1|3, H, W) or (B, 1|3, H, W)"
            )
    else:
        array = np.asarray(image)
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim != 3 or array.shape[-1] not in (1, 3):
            raise DataError(
                f"{name}: an array of shape {np.shape(image)} is not an image; expected (H, W) or (H, W, 1|3)"
            )
        x = torch.from_numpy(np.array(array.transpose(2, 0, 1)))[None]
    if x.numel() == 0:
        raise DataError(f"{name}: the image is empty, shape {tuple(x.shape)}")
    if x.dtype == torch.uint8:
        return x.to(dtype)
    if x.dtype == torch.uint16:
        return x.to(dtype) / 257
    if not x.is_floating_point():
        raise DataError(f"{name}: values of type {x.dtype} have no agreed range; pass uint8, uint16 or float in [0, 1]")
    _check_range(x.detach(), name)
    return x.to(dtype) * 255


def _check_range(x: Tensor, name: str) -> None:
    low, high = (v.item() for v in torch.aminmax(x))
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # false for NaN as well
        raise DataError(
            f"{name}: floating-point values span [{low:.4g}, {high:.4g}]; expected [0, 1] "
            "(divide 8-bit values by 255, clamp a network's output)"
        )


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
    """Rounds half up to whole grey levels in 0..255 (no gradient passes)."""
    return (x + 0.5).floor().clamp(0, 255)


def luma(x: Tensor) -> Tensor:
    """`(B, 1|3, H, W)` -> `(B, H, W)` by Matlab's `rgb2gray` weights, unrounded; one channel passes as it is."""
    if x.shape[1] == 1:
        return x[:, 0]
    # in the weights' order rather than a matmul: the rounding of ties must not depend on a library's summation order
    return LUMA[0] * x[:, 0] + LUMA[1] * x[:, 1] + LUMA[2] * x[:, 2]


def planes(a: Tensor, b: Tensor, fused: Tensor, colour: Colour, quantise: bool) -> tuple[Triple, int]:
    """Turns three batches into planes by a colour policy.

    Args:
        a: `(B, 1|3, H, W)` in 0..255.
        b: as `a`; may differ from it in channels. A single-channel source meets every channel of a colour one.
        fused: as `a`. If it has one channel, colour sources are scored by their luma.
        colour: see `fusion.metrics.conventions.Colour`.
        quantise: round to 8 bits before, and luma after.

    Returns:
        The planes `(B * planes per image, H, W)`, and how many planes each image has.
    """
    images = [round8(x) for x in (a, b, fused)] if quantise else [a, b, fused]
    if fused.shape[1] == 1 or colour == "luma":
        grey = [luma(x) for x in images]
        return Triple(*(round8(x) for x in grey) if quantise else grey), 1
    full = [x.expand(-1, 3, -1, -1) for x in images]
    if colour == "columns":
        return Triple(*(x.permute(0, 2, 1, 3).flatten(2) for x in full)), 1
    return Triple(*(x.reshape(-1, *x.shape[-2:]) for x in full)), 3
