"""Visible, infrared, far- and near-focused images of one scene, as GIFNet's official code reads them."""

from pathlib import Path
from typing import Any

from fusion.data.dataset import PairDataset
from fusion.data.files.image import read_pair
from fusion.data.files.pairs import Pair, pair_folders
from fusion.data.sample import Sample
from fusion.errors import ConfigError, DataError

_FOLDERS = {"vif": ("visible", "infrared"), "mff": ("visible_focus_far", "visible_focus_near")}


class FocusQuadruples(PairDataset):
    """Patches prepared beforehand (`python -m fusion.data action=synthesize data=gifnet`), each with both of its pairs.

    Args:
        root: folder of the patches.
        split: sub-folder, "train" or "test".
        task: which pair is `a` and `b`: "vif" or "mff"; the other one becomes `auxiliary_a` and `auxiliary_b`.
        options: those of `PairDataset`.

    Raises:
        ConfigError: an unknown task.
    """

    splits = ("train", "test")
    page = "made by `python -m fusion.data action=synthesize data=gifnet`; GIFNet's repository (AWCXV) links its own"
    layout = """\
GIFNet/
  visible/train/1.png             infrared/train/1.png
  visible_focus_far/train/1.png   visible_focus_near/train/1.png"""

    def __init__(self, root: str | Path, split: str | None = None, *, task: str = "vif", **options: Any) -> None:
        super().__init__(root, split, **options)
        if task not in ("vif", "mff"):
            raise ConfigError(f"{self.name}: task={task}, expected vif or mff.")
        self.task = task

    def find_pairs(self) -> list[Pair]:
        """Same file name in all four folders."""
        pairs = {task: self._pairs(*names) for task, names in _FOLDERS.items()}
        other = {pair.name: pair for pair in pairs[self._other]}
        if lone := [pair.name for pair in pairs[self.task] if pair.name not in other]:
            raise DataError(
                f"{self.root}: {len(lone)} names are not in {' and '.join(_FOLDERS[self._other])}: {', '.join(lone[:5])}; "
                f"add or remove them. Expected layout:\n{self.layout}"
            )
        self._companions = other
        return pairs[self.task]

    @property
    def _other(self) -> str:
        return "mff" if self.task == "vif" else "vif"

    def _pairs(self, a: str, b: str) -> list[Pair]:
        folders = (self.root / name / self.split for name in (a, b, "visible"))
        return pair_folders(*folders, allow_unpaired=self.allow_unpaired, layout=self.layout)

    def _read(self, pair: Pair) -> Sample:
        sample, companion = super()._read(pair), self._companions[pair.name]
        a, b = read_pair(companion.a, companion.b, self.match_size)
        if a.pixels.shape != sample["a"].shape:
            raise DataError(f"{pair.a}: its four images differ in size; make them again.")
        return {**sample, "auxiliary_a": a.pixels, "auxiliary_b": b.pixels, "auxiliary_task": self._other}
