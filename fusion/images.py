"""Images as users hold them, arrays or tensors, to batches of one shape."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.errors import DataError


def as_batch(image: Any, name: str) -> Tensor:
    """Brings an image or a batch of images into one shape; does not look at its values.

    Args:
        image: array `(H, W)` or `(H, W, 1|3)`, or tensor `(H, W)`, `(1|3, H, W)` or `(B, 1|3, H, W)`; uint8 in 0..255,
            uint16 in 0..65535 or floating point in [0, 1].
        name: how messages call it.

    Returns:
        `(B, 1|3, H, W)` of the image's type and range, on its device.

    Raises:
        DataError: for another shape or another type.
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
                "expected a tensor (H, W), (1|3, H, W) or (B, 1|3, H, W)"
            )
    else:
        array = np.asarray(image)
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim != 3 or array.shape[-1] not in (1, 3):
            raise DataError(
                f"{name}: an array of shape {np.shape(image)} is not an image; "
                "expected an array (H, W) or (H, W, 1|3), no alpha channel"
            )
        if array.dtype not in (np.uint8, np.uint16) and not np.issubdtype(array.dtype, np.floating):
            raise DataError(_no_range(name, array.dtype))
        x = torch.from_numpy(np.array(array.transpose(2, 0, 1)))[None]
    if x.numel() == 0:
        raise DataError(
            f"{name}: the image is empty, shape {tuple(x.shape)}; expected a tensor or an array with pixels"
        )
    if not x.is_floating_point() and x.dtype not in (torch.uint8, torch.uint16):
        raise DataError(_no_range(name, x.dtype))
    return x


def check_ranges(images: Mapping[str, Tensor]) -> None:
    """Refuse floating-point images outside [0, 1], by their names; one transfer for all, which a GPU waits for.

    Raises:
        DataError: values outside, or NaN.
    """
    floating = {name: x.detach() for name, x in images.items() if x.is_floating_point()}
    if not floating:
        return
    device = next(iter(floating.values())).device
    limits = torch.stack([torch.stack(torch.aminmax(x)).to(device, torch.float64) for x in floating.values()])
    for name, (low, high) in zip(floating, limits.tolist(), strict=True):
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # false for NaN as well
            raise DataError(
                f"{name}: floating-point values span [{low:.4g}, {high:.4g}]; expected values in [0, 1] "
                "(divide by 255 if they are 8-bit values, clamp a network's output)"
            )


def _no_range(name: str, dtype: Any) -> str:
    return f"{name}: values of type {dtype} have no agreed range; expected uint8, uint16 or float in [0, 1]"
