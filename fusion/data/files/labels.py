"""Label files: VOC boxes, class maps, saliency maps."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusion.data.files.image import read_image
from fusion.data.files.limits import open_image
from fusion.errors import DataError

IGNORE = 255
"""Class of pixels that do not count."""


def read_voc_boxes(
    path: Path,
    classes: Sequence[str],
    size: tuple[int, int] | None,
    offset: float = 1.0,
    difficult: bool = False,
    rescale: bool = False,
) -> tuple[Tensor, Tensor]:
    """Boxes of a VOC XML file.

    Args:
        path: the file.
        classes: names of the classes in the order of their numbers; objects of other classes are left out.
        size: height and width of the image; None: as the file has it.
        offset: subtracted from all coordinates: 1 for those that count pixels from 1, as VOC does.
        difficult: keep objects that are marked difficult.
        rescale: scale the boxes where the file was made for another image size; otherwise that is refused.

    Returns:
        Boxes `(n, 4)` float32, xyxy in pixels from 0, clipped to the image, without empty ones; their classes `(n,)`
        int64, counted from 0.

    Raises:
        DataError: unreadable, a box without coordinates, or made for another size.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: its encoding
        raise DataError(f"{path}: unreadable annotation ({error}); download or copy it again.") from error
    height, width = size or (math.inf, math.inf)
    scale_x = scale_y = 1.0
    written = _written_size(root, path)
    if size is not None and written is not None and written != size:
        if not rescale:
            raise DataError(
                f"{path}: made for an image of {written[1]}x{written[0]}, but the image is {width}x{height}; set "
                "match_size to scale the boxes, or labels=false to leave them."
            )
        scale_y, scale_x = height / written[0], width / written[1]
    numbers = {name.casefold(): number for number, name in enumerate(classes)}
    boxes, labels = [], []
    for item in root.iter("object"):
        number = numbers.get((item.findtext("name") or "").strip().casefold())
        if number is None or (not difficult and (item.findtext("difficult") or "0").strip() == "1"):
            continue
        left, top, right, bottom = _corners(item, path)
        box = [
            (left - offset) * scale_x,
            (top - offset) * scale_y,
            (right - offset) * scale_x,
            (bottom - offset) * scale_y,
        ]
        box = [
            min(max(box[0], 0), width),
            min(max(box[1], 0), height),
            min(max(box[2], 0), width),
            min(max(box[3], 0), height),
        ]
        if box[2] > box[0] and box[3] > box[1]:
            boxes.append(box)
            labels.append(number)
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64)


def read_class_map(path: Path, size: tuple[int, int], resize: bool = False) -> Tensor:
    """A picture whose values are class numbers, grey or palette, as `(H, W)` uint8.

    Args:
        path: the file.
        size: height and width of the image.
        resize: bring a map of another size to that of the image (nearest neighbour); otherwise that is refused.

    Raises:
        DataError: unreadable, a color picture, numbers above 255, or another size.
    """
    try:
        with open_image(path) as file:
            values = np.array(file)
    except DataError:
        raise
    except Exception as error:  # each of Pillow's plug-ins has its own kinds
        raise DataError(f"{path}: unreadable or truncated class map ({error}); download or copy it again.") from error
    if values.ndim == 3 and all(
        np.array_equal(values[..., 0], values[..., i]) for i in range(1, min(3, values.shape[2]))
    ):
        values = values[..., 0]
    if values.ndim != 2:
        raise DataError(f"{path}: a color picture, expected class numbers in one channel; take the label folder.")
    if int(values.max(initial=0)) > 255 or int(values.min(initial=0)) < 0:
        raise DataError(f"{path}: values up to {values.max()}, expected class numbers from 0 to 255.")
    return _fit(torch.from_numpy(values.astype(np.uint8)), path, size, resize)


def read_saliency(path: Path, size: tuple[int, int], resize: bool = False) -> Tensor:
    """A saliency picture as `(H, W)` uint8: 1 where it is brighter than half, else 0.

    Args:
        path: the file.
        size: height and width of the image.
        resize: as in `read_class_map`.

    Raises:
        DataError: unreadable, or another size.
    """
    return _fit((read_image(path).pixels[0] > 127).to(torch.uint8), path, size, resize)


def _fit(mask: Tensor, path: Path, size: tuple[int, int], resize: bool) -> Tensor:
    if tuple(mask.shape) == tuple(size):
        return mask
    if not resize:
        raise DataError(
            f"{path} is {mask.shape[1]}x{mask.shape[0]}, its images {size[1]}x{size[0]}; set match_size to resize the "
            "labels, or labels=false to leave them."
        )
    return torch.nn.functional.interpolate(mask[None, None], size, mode="nearest-exact")[0, 0]


def _written_size(root: ElementTree.Element, path: Path) -> tuple[int, int] | None:
    """Height and width an annotation was made for; None where it does not say."""
    try:
        size = int(root.findtext("size/height") or 0), int(root.findtext("size/width") or 0)
    except ValueError as error:
        raise DataError(f"{path}: its <size> is not a number ({error}).") from error
    return size if min(size) > 0 else None


def _corners(item: ElementTree.Element, path: Path) -> list[float]:
    try:
        return [float(item.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError:
        raise DataError(f"{path}: an object without xmin, ymin, xmax and ymax; mend or remove it.") from None
