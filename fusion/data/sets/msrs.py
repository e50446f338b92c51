"""MSRS."""

import dataclasses
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.data.files.boxes import BoxFiles
from fusion.data.files.pairs import Pair, find_folder, fold, pair_folders
from fusion.data.labelled import MaskDataset
from fusion.data.sample import Sample
from fusion.errors import ConfigError, DataError


class MSRS(MaskDataset):
    """Visible-infrared road scenes by day (`D`) and night (`N`) with maps of 9 classes (Tang et al., 2022; PIAFusion).

    1,083 training and 361 test pairs of 640x480 PNG; `a` is the visible, `b` the infrared image. 80 of the pairs have boxes
    of people and cars, as YOLO text under the pair's number (`1.txt` for `00001D`); VOC files under the pair's name are read
    too.

    Args:
        root: folder of the data set.
        split: "train" or "test".
        boxes: True: there must be a folder of boxes; False: leave them alone; None: read them where there is one. Pairs
            without a file have no boxes.
        box_dir: folder of box files in place of the data set's own.
        classes: of the boxes, in the order of their numbers.
        text_classes: names of the class numbers in text files.
        offset: what coordinates in VOC files count from.
        difficult: keep objects marked as difficult.
        require_boxes: leave out pairs without a single box.
        options: those of `LabelledDataset`, for the maps.

    Raises:
        ConfigError: no classes, or boxes that are required and left alone.
        DataError: on first use, if the boxes are not as expected.
    """

    task = "vif"
    splits = ("train", "test")
    counts = (1083, 361)
    class_names = ("unlabelled", "car", "person", "bike", "curve", "car stop", "guardrail", "cone", "bump")
    page = "MSRS repository of Linfeng-Tang"
    layout = """\
MSRS/
  train/vi/00001D.png   train/ir/00001D.png   train/Segmentation_labels/00001D.png   (class numbers, optional)
  test/vi/...           test/ir/...           test/Segmentation_labels/...
  boxes/00001D.xml      (VOC, optional)  or  detection/labels/1.txt   (YOLO text as published, optional)"""

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        boxes: bool | None = None,
        box_dir: str | Path | None = None,
        classes: Sequence[str] = ("People", "Car"),
        text_classes: Sequence[str] = ("People", "Bike", "Car"),
        offset: float = 0.0,
        difficult: bool = False,
        require_boxes: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(root, split, **options)
        if not classes:
            raise ConfigError(f"{self.name}: classes=[]: expected at least one name, such as People, Car.")
        if require_boxes and boxes is False:
            raise ConfigError(f"{self.name}: require_boxes=true needs boxes, but boxes=false.")
        self.classes = tuple(classes)
        self.boxes, self.require_boxes = boxes, require_boxes
        self.box_dir = None if box_dir is None else Path(box_dir)
        self.files = BoxFiles(classes, text_classes, offset, difficult)

    def find_pairs(self) -> list[Pair]:
        """Same file name in `vi` and `ir` of the split."""
        folder = find_folder(self.root, self.split)
        return pair_folders(
            find_folder(folder, "vi"), find_folder(folder, "ir"), allow_unpaired=self.allow_unpaired, layout=self.layout
        )

    def label_folder(self) -> Path:
        """In the split's folder, or in a folder of its own."""
        inside = find_folder(find_folder(self.root, self.split), "Segmentation_labels")
        return inside if inside.is_dir() else find_folder(self.root, "Segmentation_labels") / self.split

    def box_folder(self) -> Path:
        """The given folder, else `boxes`, else the published `detection/labels`."""
        if self.box_dir is not None:
            return self.box_dir
        own = find_folder(self.root, "boxes")
        return own if own.is_dir() else find_folder(find_folder(self.root, "detection"), "labels")

    def with_labels(self, pairs: list[Pair]) -> list[Pair]:
        """Find the maps and the boxes; with `require_boxes` leave out pairs that have no box."""
        pairs = super().with_labels(pairs)
        folder = self.box_folder()
        asked = self.boxes or self.box_dir is not None or self.require_boxes
        if self.boxes is False or (not asked and not folder.is_dir()):
            return pairs
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of boxes. Expected layout:\n{self.layout}")
        endings = (".xml", ".txt")
        files = {
            fold(p.stem): p for ending in reversed(endings) for p in folder.iterdir() if p.suffix.lower() == ending
        }
        pairs = [
            dataclasses.replace(pair, boxes=files.get(fold(pair.name)) or files.get(_number(pair.name)))
            for pair in pairs
        ]
        if asked and not any(pair.boxes for pair in pairs):
            raise DataError(
                f"{folder}: no box file of the {len(pairs)} pairs ({pairs[0].name}.xml or {_number(pairs[0].name)}.txt)."
            )
        if not self.require_boxes:
            return pairs
        kept = [pair for pair in pairs if pair.boxes is not None and len(self.files.read(pair.boxes, None)[0])]
        if not kept:
            raise DataError(f"{folder}: no pair has a box of {', '.join(self.classes)}; check `classes`.")
        if len(kept) < len(pairs):
            warnings.warn(f"{self.name}: {len(pairs) - len(kept)} pairs have no box and are left out.", stacklevel=2)
        return kept

    def read_labels(self, pair: Pair, size: tuple[int, int]) -> Sample:
        """`mask` `(H, W)`, and `boxes` `(n, 4)` with `labels` `(n,)`, as far as the pair has them."""
        sample = super().read_labels(pair, size)
        if pair.boxes is not None:
            sample["boxes"], sample["labels"] = self.files.read(pair.boxes, size, self.match_size is not None)
        return sample

    def label_options(self) -> dict[str, Any]:
        """What decides how label files are read."""
        return super().label_options() | {"boxes": self.boxes} | self.files.options()


def _number(name: str) -> str:
    """`1` of `00001D`: how the published text files are named."""
    return str(int(digits[0])) if (digits := re.findall(r"\d+", name)) else ""
