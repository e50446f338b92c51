"""FLIR, aligned."""

from pathlib import Path

from fusion.data.files.pairs import Pair, find_folder, fold, pair_endings
from fusion.data.files.selection import read_names
from fusion.data.labelled import BoxDataset
from fusion.errors import DataError

_LISTS = {"train": "align_train.txt", "test": "align_validation.txt"}
_PREVIEW = "_PreviewData"


class FLIR(BoxDataset):
    """Visible-infrared driving scenes with boxes, the aligned part of the FLIR ADAS set (Zhang et al., ICIP 2020).

    4,129 training and 1,013 test pairs of 640x512; `a` is the visible (`_RGB`), `b` the infrared image
    (`_PreviewData`). MoE-Fusion uses cars, persons and bicycles and drops the rest (dogs).
    """

    task = "vif"
    splits = ("train", "test")
    counts = (4129, 1013)
    class_names = ("car", "person", "bicycle")
    page = "FLIR ADAS data set of Teledyne FLIR; the aligned subset of Zhang et al., ICIP 2020"
    layout = """\
FLIR/  (or FLIR/align/)
  JPEGImages/FLIR_00001_RGB.jpg   JPEGImages/FLIR_00001_PreviewData.jpeg
  Annotations/FLIR_00001_PreviewData.xml   (optional, VOC boxes)
  align_train.txt   align_validation.txt   (one name per line; also read from ImageSets/Main)"""

    def find_pairs(self) -> list[Pair]:
        """The names of the split's list, with or without `_PreviewData`."""
        base = self._base()
        pairs = pair_endings(
            find_folder(base, "JPEGImages"), "_RGB", _PREVIEW, allow_unpaired=self.allow_unpaired, layout=self.layout
        )
        listing = next(
            (p for p in (base / _LISTS[self.split], base / "ImageSets/Main" / _LISTS[self.split]) if p.is_file()), None
        )
        if listing is None:
            raise DataError(f"{base / _LISTS[self.split]}: no list of this split. Expected layout:\n{self.layout}")
        by_name = {fold(pair.name): pair for pair in pairs}
        names = [name.removesuffix(_PREVIEW).removesuffix("_RGB") for name in read_names(listing)]
        missing = [name for name in names if fold(name) not in by_name]
        if missing:
            raise DataError(f"{listing}: {len(missing)} names have no pair of images: {', '.join(missing[:5])}.")
        wanted = {fold(name) for name in names}
        return [pair for key, pair in by_name.items() if key in wanted]

    def label_folder(self) -> Path:
        """One folder for both splits."""
        return find_folder(self._base(), "Annotations")

    def label_stem(self, pair: Pair) -> str:
        """Boxes are drawn on the infrared image."""
        return pair.name + _PREVIEW

    def _base(self) -> Path:
        nested = find_folder(self.root, "align")
        return nested if nested.is_dir() else self.root
