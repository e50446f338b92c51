"""Turning what users hold into the tensors models take, and padding to the sizes models accept."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from fusion.data.files.pillow import from_pillow
from fusion.data.files.raster import Raster, limits_of
from fusion.data.files.reading import read_raster
from fusion.data.sources import Sources, prepare
from fusion.errors import ConfigError, DataError
from fusion.images import as_batch, check_ranges
from fusion.layers.borders import is_symbolic, reflected_indices

Image = Tensor | np.ndarray | str | Path | PIL.Image.Image
"""What `fuse` takes: tensors, arrays, files and Pillow images."""


def read_sources(a: Image, b: Image, ranges: Any = "auto") -> Sources | None:
    """`read_list` of two sources."""
    return read_list([a, b], ranges, stacklevel=4)


def read_list(images: Sequence[Image], ranges: Any = "auto", stacklevel: int = 3) -> Sources | None:
    """Files and Pillow images as tensors, with what a result takes over from them; None for tensors and arrays.

    Where one is a file and another an array, the array is taken as a picture too. What a user should know of the files is
    a warning.

    Raises:
        ConfigError: a range for tensors or arrays.
        DataError: a file that cannot be read, sizes that differ, or a file beside a tensor.
    """
    if not any(isinstance(x, str | Path | PIL.Image.Image) for x in images):
        if ranges != "auto":
            raise ConfigError(
                f"range={ranges}: for files and Pillow images; scale tensors and arrays to [0, 1] yourself"
            )
        return None
    sources = prepare([_raster(x, name_of(i)) for i, x in enumerate(images)], ranges)
    for line in sources.notes:
        if line.startswith("warning: "):
            warnings.warn(line.removeprefix("warning: "), stacklevel=stacklevel)
    return sources


def name_of(index: int) -> str:
    """What a source is called in messages: a, b, c, ..."""
    return chr(ord("a") + index) if index < 26 else f"source {index + 1}"


def describe_arrays(*images: Image) -> Sources | None:
    """What a result takes over from arrays: their depth. None for tensors."""
    arrays = [image for image in images if isinstance(image, np.ndarray)]
    return prepare([_of_array(array) for array in arrays]) if len(arrays) == len(images) else None


def _raster(image: Image, name: str) -> Raster:
    if isinstance(image, str | Path):
        return read_raster(image)
    if isinstance(image, PIL.Image.Image):
        return from_pillow(image)
    if isinstance(image, np.ndarray):
        return _of_array(image)
    raise DataError(f"{name}: a tensor beside a file or a Pillow image; give two of a kind")


def _of_array(array: np.ndarray) -> Raster:
    """An array HxW or HxWxC as a picture."""
    planes = np.ascontiguousarray((array[..., None] if array.ndim == 2 else array).transpose(2, 0, 1))
    return Raster(planes, "gray" if len(planes) == 1 else "rgb", limits_of(planes))


def image_batch(image: Image, name: str = "image") -> Tensor:
    """Read an image or a batch as a float batch of RGB images.

    Args:
        image: tensor `(H, W)`, `(1|3, H, W)` or `(B, 1|3, H, W)`, or array `(H, W)` or `(H, W, 1|3)`;
            uint8, uint16 or float in [0, 1].
        name: what to call it in messages.

    Returns:
        `(B, 3, H, W)` float32 in [0, 1]; one channel is repeated to three.

    Raises:
        DataError: another shape, type or range.
    """
    if not isinstance(image, Tensor | np.ndarray):
        raise DataError(f"{name}: expected a tensor or a numpy array, not {type(image).__name__}")
    batch = as_batch(image, name)
    check_ranges({name: batch})
    top = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(batch.dtype)
    if batch.shape[1] == 3 and batch.stride(1) == 0:  # a grey picture, repeated without a copy
        batch = batch[:, :1]
    values = batch.float().contiguous()
    return (values if top is None else values / top).expand(-1, 3, -1, -1)


def image_pair(a: Image, b: Image, device: torch.device) -> tuple[Tensor, Tensor]:
    """Read a pair as two batches of one shape on a device.

    Raises:
        DataError: the two do not agree in size or count.
    """
    first, second = image_list([a, b], device)
    return first, second


def image_list(images: Sequence[Image], device: torch.device) -> list[Tensor]:
    """Read several sources as batches of one shape on a device.

    Raises:
        DataError: they do not agree in size or count; the first two that differ are named.
    """
    batches = [image_batch(image, name_of(index)).to(device) for index, image in enumerate(images)]
    first = batches[0]
    for index, batch in enumerate(batches[1:], 1):
        name = name_of(index)
        if first.shape[-2:] != batch.shape[-2:]:
            sizes = [f"{tensor.shape[-2]}x{tensor.shape[-1]}" for tensor in (first, batch)]
            raise DataError(
                f"a is {sizes[0]} and {name} is {sizes[1]} (height x width): register and resize them to one size"
            )
        if first.shape[0] != batch.shape[0]:
            raise DataError(f"a holds {first.shape[0]} images and {name} {batch.shape[0]}: expected as many in both")
    return batches


def reflect_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Extend `(..., H, W)` at the bottom and right by reflection, until both sides are multiples.

    Reflects as often as needed, so that images smaller than the extension work too.
    """
    if multiple == 1:
        return image
    for axis in (-2, -1):
        size = image.shape[axis]
        total = (size + multiple - 1) // multiple * multiple
        if is_symbolic(size) or total > size:
            image = image.index_select(axis, reflected_indices(size, total, image.device))
    return image


def reflect_to_least(image: Tensor, least: int) -> Tensor:
    """Extend `(..., H, W)` at the bottom and right by reflection, until no side is shorter than `least`."""
    for axis in (-2, -1):
        size = image.shape[axis]
        if size < least:
            image = image.index_select(axis, reflected_indices(size, least, image.device))
    return image
