"""Box files: YOLO text, and one reader for every format that a data set may have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import torch
from torch import Tensor

from fusion.data.files.labels import read_voc_boxes
from fusion.errors import DataError
from fusion.files import write_text

_UNKNOWN_SIZE = (2**20, 2**20)


class BoxFiles:
    """Reads VOC XML and YOLO text by the ending of the file.

    Args:
        classes: names of the classes in the order of their numbers; objects of other classes are left out.
        text_classes: names of the class numbers in YOLO text files, from 0.
        offset: what coordinates in VOC files count from.
        difficult: keep objects that are marked difficult in VOC files.
    """

    def __init__(
        self, classes: Sequence[str], text_classes: Sequence[str], offset: float = 1.0, difficult: bool = False
    ) -> None:
        self.classes, self.text_classes = tuple(classes), tuple(text_classes)
        self.offset, self.difficult = offset, difficult

    def read(self, path: Path, size: tuple[int, int] | None, rescale: bool = False) -> tuple[Tensor, Tensor]:
        """Boxes `(n, 4)` xyxy in pixels and classes `(n,)` of a file.

        Args:
            path: `.xml` or `.txt`.
            size: height and width of the image; None: VOC boxes in the pixels that the file was made for, not clipped.
            rescale: scale VOC boxes that were made for another image size; otherwise they are refused.

        Raises:
            DataError: the file cannot be used.
        """
        if path.suffix.lower() == ".txt":
            return read_yolo_boxes(path, self.classes, self.text_classes, size or _UNKNOWN_SIZE)
        return read_voc_boxes(path, self.classes, size, self.offset, self.difficult, rescale)

    def options(self) -> dict[str, Any]:
        """What decides how files are read, for cache keys."""
        names = ("classes", "text_classes", "offset", "difficult")
        return {name: getattr(self, name) for name in names}


def read_yolo_boxes(
    path: Path, classes: Sequence[str], text_classes: Sequence[str], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Boxes of a YOLO text file: `class cx cy w h` per line, relative to the image; a sixth number (score) is ignored.

    Args:
        path: the file; an empty one is an image without objects.
        classes: names of the classes in the order of their numbers; objects of other classes are left out.
        text_classes: names of the class numbers in the file, from 0.
        size: height and width of the image.

    Returns:
        Boxes `(n, 4)` float32, xyxy in pixels, clipped to the image, without empty ones; their classes `(n,)` int64,
        counted from 0 in the order of `classes`.

    Raises:
        DataError: unreadable, a line of another form, coordinates in pixels, or a class number without a name.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: unreadable annotation ({error}); download or copy it again.") from error
    height, width = size
    numbers = {name.casefold(): number for number, name in enumerate(classes)}
    boxes, labels = [], []
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        values = _numbers(line, f"{path}, line {place}")
        number = int(values[0])
        if not 0 <= number < len(text_classes) or number != values[0]:
            raise DataError(
                f"{path}, line {place}: class {values[0]:g}, known are 0 to {len(text_classes) - 1} "
                f"({', '.join(text_classes)}); set text_classes to the names of the file's classes."
            )
        label = numbers.get(text_classes[number].casefold())
        cx, cy, w, h = values[1:5]
        corners = (
            min(max((cx - w / 2) * width, 0.0), float(width)),
            min(max((cy - h / 2) * height, 0.0), float(height)),
            min(max((cx + w / 2) * width, 0.0), float(width)),
            min(max((cy + h / 2) * height, 0.0), float(height)),
        )
        if label is not None and corners[2] > corners[0] and corners[3] > corners[1]:
            boxes.append(corners)
            labels.append(label)
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64)


def write_voc_boxes(
    path: Path, size: tuple[int, int], boxes: Tensor, names: Sequence[str], offset: float = 1.0
) -> Path:
    """Write boxes as VOC XML; `read_voc_boxes` reads them back, to a hundredth of a pixel.

    Args:
        path: file to write; its folder is made.
        size: height and width of the image.
        boxes: `(n, 4)` xyxy in pixels from 0.
        names: class of each box.
        offset: added to all coordinates: 1 to count from 1, as VOC does.

    Raises:
        DataError: the file cannot be written.
    """
    lines = [f"<annotation><size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"]
    for box, name in zip(boxes.tolist(), names, strict=True):
        keys = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        corners = "".join(f"<{key}>{value + offset:.2f}</{key}>" for key, value in keys)
        lines.append(f"<object><name>{escape(name)}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>")
    try:
        return write_text(path, "\n".join([*lines, "</annotation>\n"]))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from error


def _numbers(line: str, where: str) -> list[float]:
    try:
        values = [float(text) for text in line.split()]
    except ValueError:
        raise DataError(f"{where}: expected 'class cx cy w h', found '{line.strip()[:60]}'.") from None
    if len(values) not in (5, 6):
        raise DataError(f"{where}: {len(values)} numbers, expected 'class cx cy w h' (boxes, not polygons).")
    if not all(-0.01 <= value <= 1.01 for value in values[1:5]):
        raise DataError(f"{where}: coordinates outside [0, 1], expected shares of the image's width and height.")
    return values
