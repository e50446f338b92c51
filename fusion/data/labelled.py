"""Data sets whose pairs come with boxes or class maps."""

import dataclasses
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.ops import box_area, clip_boxes_to_image

from fusion.data.dataset import PairDataset
from fusion.data.files.boxes import BoxFiles
from fusion.data.files.labels import IGNORE, read_class_map, read_saliency
from fusion.data.files.pairs import Pair, list_images
from fusion.data.sample import Sample, Transform
from fusion.data.seeds import derive_seed
from fusion.data.transforms.mosaic import mosaic
from fusion.errors import ConfigError, DataError
from fusion.names import first_five, fold


class LabelledDataset(PairDataset):
    """Pairs with one label file each.

    Args:
        root: folder of the data set.
        split: one of `splits`.
        labels: True: every pair needs its label file; False: leave labels alone; None: read them if their folder is
            there.
        label_dir: folder of label files in place of the data set's own, such as those of
            `python -m fusion.data action=label`.
        options: those of `PairDataset`.

    Raises:
        DataError: on first use, if label files are missing.
    """

    label_endings: ClassVar[tuple[str, ...]] = (".png",)

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        labels: bool | None = None,
        label_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, split, **options)
        self.labels = labels
        self.label_dir = None if label_dir is None else Path(label_dir)

    @abstractmethod
    def label_folder(self) -> Path:
        """Where the label files of the split are."""

    def label_stem(self, pair: Pair) -> str:
        """Name of a pair's label file, ending aside."""
        return pair.name

    def with_labels(self, pairs: list[Pair]) -> list[Pair]:
        """Find the label files.

        Raises:
            DataError: the folder is missing (with `labels=True`), or a pair's file.
        """
        folder = self.label_dir or self.label_folder()
        if self.labels is False or (self.labels is None and self.label_dir is None and not folder.is_dir()):
            return pairs
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of labels. Expected layout:\n{self.layout}")
        files = {fold(path.stem): path for path in self._label_files(folder)}
        found = [dataclasses.replace(p, label=files.get(fold(self.label_stem(p)))) for p in pairs]
        if missing := [pair.name for pair in found if pair.label is None]:
            raise DataError(
                f"{folder}: no label for {len(missing)} of {len(pairs)} pairs: {first_five(missing)}; add them, leave "
                "the pairs out (exclude), or set labels=false."
            )
        return found

    def cache_key(self) -> str:
        """Labels are kept with the images."""
        return f"{super().cache_key()} {self.label_options()}"

    def label_options(self) -> dict[str, Any]:
        """What decides how label files are read."""
        return {"labels": self.labels}

    def _label_files(self, folder: Path) -> list[Path]:
        if self.label_endings == (".png",):
            return list_images(folder, self.layout)
        found = [path for path in folder.iterdir() if path.suffix.lower() in self.label_endings]
        return sorted(found, key=lambda path: -self.label_endings.index(path.suffix.lower()))  # the first ending wins


BOXES = ("scaled", "official")
"""What becomes of boxes where images are resized as they are read."""


class BoxDataset(LabelledDataset):
    """Pairs with boxes, VOC or YOLO text, which become `boxes` and `labels`.

    Args:
        root: folder of the data set.
        split: one of `splits`.
        classes: names in the order of their numbers, which count from 0; objects of other classes are left out. None:
            those of the data set.
        offset: what coordinates in VOC files count from; 1 as in VOC.
        difficult: keep objects marked as difficult.
        text_classes: names of the class numbers in YOLO text files; None: `class_names`.
        require_boxes: leave out pairs without a single box, as detection training does.
        boxes: "scaled" follows the images where `resize` changes their size; "official" leaves boxes in the pixels of the
            file and only clips them, as the released code of MoE-Fusion does, which is right for annotations made for
            the size that the images are resized to.
        mosaic: share of training samples that four pairs make together, see `fusion.data.transforms.mosaic`; YOLOv5: 1.
        mosaic_size: side of those in pixels.
        options: those of `LabelledDataset`.

    Raises:
        ConfigError: no classes, a share or size out of range, or a kind of `boxes` that is unknown or without `resize`.
    """

    label_endings = (".xml", ".txt")
    class_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        classes: Sequence[str] | None = None,
        offset: float = 1.0,
        difficult: bool = False,
        text_classes: Sequence[str] | None = None,
        require_boxes: bool | None = False,
        boxes: str = "scaled",
        mosaic: float = 0.0,
        mosaic_size: int = 640,
        **options: Any,
    ) -> None:
        super().__init__(root, split, **options)
        self.classes = tuple(self.class_names if classes is None else classes)
        if not self.classes:
            raise ConfigError(
                f"{self.name}: classes=[]: expected at least one name, known: {', '.join(self.class_names)}."
            )
        self.require_boxes = bool(require_boxes)
        self.files = BoxFiles(self.classes, text_classes or self.class_names, offset, difficult)
        if boxes not in BOXES:
            raise ConfigError(f"{self.name}: boxes={boxes} is not one of {', '.join(BOXES)}.")
        if boxes == "official" and self.resize is None:
            raise ConfigError(
                f"{self.name}: boxes=official is about images that are resized: set resize, or boxes=scaled."
            )
        self.boxes = boxes
        if not 0 <= mosaic <= 1:
            raise ConfigError(f"{self.name}: mosaic={mosaic}: expected a share between 0 and 1.")
        if mosaic_size < 1:
            raise ConfigError(f"{self.name}: mosaic_size={mosaic_size}: expected a positive number of pixels.")
        self.mosaic, self.mosaic_size = mosaic, mosaic_size
        self.is_random = mosaic > 0
        if require_boxes and self.labels is False:
            raise ConfigError(f"{self.name}: require_boxes=true needs labels, but labels=false.")

    def with_labels(self, pairs: list[Pair]) -> list[Pair]:
        """Find the annotations and, with `require_boxes`, leave out pairs that have no box."""
        pairs = super().with_labels(pairs)
        if not self.require_boxes:
            return pairs
        if any(pair.label is None for pair in pairs):
            raise DataError(f"{self.label_folder()}: require_boxes=true, but there are no annotations.")
        with ThreadPoolExecutor(4) as pool:
            filled = list(pool.map(self._has_boxes, pairs))
        kept = [pair for pair, full in zip(pairs, filled, strict=True) if full]
        if not kept:
            raise DataError(f"{self.label_folder()}: no pair has a box of {', '.join(self.classes)}; check `classes`.")
        if len(kept) < len(pairs):
            warnings.warn(f"{self.name}: {len(pairs) - len(kept)} pairs have no box and are left out.", stacklevel=2)
        return kept

    def read_labels(self, pair: Pair, size: tuple[int, int]) -> Sample:
        """`boxes` `(n, 4)` and `labels` `(n,)`, where the pair has an annotation."""
        if pair.label is None:
            return {}
        boxes, labels = self._boxes(pair, size)
        return {"boxes": boxes, "labels": labels}

    def label_options(self) -> dict[str, Any]:
        """What decides how annotations are read."""
        kind = {} if self.boxes == "scaled" else {"boxes": self.boxes}
        return super().label_options() | self.files.options() | kind

    def draw(self, index: int, seed: int, transform: Transform | None = None) -> Sample:
        """Sample of an index, of a `mosaic` share of them with three others around it; the transforms come after."""
        if not self.mosaic:
            return super().draw(index, seed, transform)
        generator = torch.Generator().manual_seed(derive_seed("mosaic", seed))
        if float(torch.rand((), generator=generator)) >= self.mosaic:
            return super().draw(index, seed, transform)
        others = torch.randint(len(self), (3,), generator=generator).tolist()
        sample = mosaic([self.load(i) for i in (index, *others)], self.mosaic_size, generator)
        transform = self.transform or transform
        return sample if transform is None else transform(sample, seed)

    def _decode(self, pair: Pair) -> Sample:
        if self.boxes == "scaled" or self._resize is None:
            return super()._decode(pair)
        sample = self._read(pair)
        boxes, labels = (sample.pop(key, None) for key in ("boxes", "labels"))
        sample = self._resize(sample)
        if boxes is not None and labels is not None:
            boxes = clip_boxes_to_image(boxes, tuple(sample["a"].shape[-2:]))
            kept = box_area(boxes) > 0
            sample |= {"boxes": boxes[kept], "labels": labels[kept]}
        return sample

    def _has_boxes(self, pair: Pair) -> bool:
        """Whether some box will be left; of VOC files whose boxes are not scaled, those within the new size count."""
        assert pair.label is not None
        boxes, _ = self._boxes(pair, None)
        size = self.resize if isinstance(self.resize, Sequence) and len(self.resize) == 2 else None
        is_text = pair.label.suffix.lower() == ".txt"  # shares of an image whose size is not known here
        if self.boxes == "official" and size is not None and not is_text:
            boxes = clip_boxes_to_image(boxes, (size[0], size[1]))
        return bool((box_area(boxes) > 0).any())

    def _boxes(self, pair: Pair, size: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        assert pair.label is not None
        return self.files.read(pair.label, size, rescale=self.match_size is not None)


class MaskDataset(LabelledDataset):
    """Pairs with a map of classes, which becomes `mask`."""

    class_names: ClassVar[tuple[str, ...]]
    """Names in the order of the numbers in `mask`."""
    mapping: Mapping[int, int] | None = None
    """Number in the file -> number in `mask`; others become `IGNORE`. None: as they are."""

    def read_labels(self, pair: Pair, size: tuple[int, int]) -> Sample:
        """`mask` `(H, W)` uint8, where the pair has a map."""
        if pair.label is None:
            return {}
        mask = read_class_map(pair.label, size, self.match_size is not None)
        if self.mapping is not None:
            table = torch.full((256,), IGNORE, dtype=torch.uint8)
            for number, new in self.mapping.items():
                table[number] = new
            mask = table[mask.long()]
        return {"mask": mask}

    def label_options(self) -> dict[str, Any]:
        """What decides how maps are read."""
        return super().label_options() | {"mapping": self.mapping}


class SaliencyDataset(MaskDataset):
    """Pairs with a saliency map; `mask` is 1 on salient objects."""

    class_names = ("background", "salient")

    def read_labels(self, pair: Pair, size: tuple[int, int]) -> Sample:
        """`mask` `(H, W)` uint8 of 0 and 1, where the pair has a map."""
        return {} if pair.label is None else {"mask": read_saliency(pair.label, size, self.match_size is not None)}
