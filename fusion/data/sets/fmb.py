"""FMB."""

from pathlib import Path
from typing import Any, ClassVar

from fusion.data.files.pairs import Pair, find_folder, pair_folders
from fusion.data.labelled import MaskDataset
from fusion.errors import ConfigError

_NAMES = (
    "Road",
    "Sidewalk",
    "Building",
    "Lamp",
    "Sign",
    "Vegetation",
    "Sky",
    "Person",
    "Car",
    "Truck",
    "Bus",
    "Motorcycle",
    "Bicycle",
    "Pole",
)


class FMB(MaskDataset):
    """Visible-infrared driving scenes with maps of 14 classes (Liu et al., ICCV 2023; SegMiF).

    1,220 training and 280 test pairs of 800x600 PNG; `a` is the visible, `b` the infrared image. In the files 0 is
    unlabelled and 1 to 14 are Road ... Pole.

    Args:
        root: folder of the data set.
        split: "train" or "test".
        num_classes: 14: `mask` has 0 to 13 for Road ... Pole and 255 for unlabelled; 15: the numbers of the files.
        options: those of `LabelledDataset`.

    Raises:
        ConfigError: another number of classes.
    """

    task = "vif"
    splits = ("train", "test")
    counts = (1220, 280)
    class_names: ClassVar[tuple[str, ...]] = _NAMES
    page = "SegMiF repository of JinyuanLiu-CV"
    layout = """\
FMB/
  train/Visible/00001.png   train/Infrared/00001.png   train/Label/00001.png   (class numbers, optional)
  test/Visible/...          test/Infrared/...          test/Label/..."""

    def __init__(self, root: str | Path, split: str | None = None, *, num_classes: int = 14, **options: Any) -> None:
        super().__init__(root, split, **options)
        if num_classes not in (14, 15):
            raise ConfigError(f"{self.name}: num_classes={num_classes}, expected 14 (unlabelled ignored) or 15.")
        self.num_classes = num_classes
        if num_classes == 14:
            self.mapping = {number: number - 1 for number in range(1, 15)}
        else:
            self.mapping = {number: number for number in range(15)}
            self.class_names = ("unlabelled", *_NAMES)  # type: ignore[misc]

    def find_pairs(self) -> list[Pair]:
        """Same file name in `Visible` and `Infrared` of the split."""
        folder = find_folder(self.root, self.split)
        return pair_folders(
            find_folder(folder, "Visible"),
            find_folder(folder, "Infrared"),
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )

    def label_folder(self) -> Path:
        """In the split's folder."""
        return find_folder(find_folder(self.root, self.split), "Label")
