"""Anyone's images: two folders or two files."""

from pathlib import Path
from typing import Any

from fusion.data.batch import TASKS, UNSEEN_TASKS
from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import PAIRING, Pair, pair_folders
from fusion.errors import ConfigError, DataError


class Folders(PairDataset):
    """Pairs of two folders by file name (endings may differ), or one pair of two files.

    Args:
        a: folder or file of the sources `a`: visible, over-exposed or focused far.
        b: folder or file of the sources `b`: infrared, under-exposed or focused near.
        task: "vif", "mef" or "mff", or one that the model knows besides: "medical", "nir", "pansharpening".
        reference: folder or file of ground truth, if there is any.
        dataset: name in tables and batches.
        pairing: what has to agree in the names: the whole "stem", the "prefix" before the first underscore, or the
            last "number" in it.
        options: those of `PairDataset`.

    Raises:
        ConfigError: an unknown task or rule.
        DataError: on first use, if folders, names or images do not fit.
    """

    layout = """\
A/one.png  A/two.jpg   (visible, over-exposed or focused far)
B/one.png  B/two.png   (infrared, under-exposed or focused near; same names)"""

    def __init__(
        self,
        a: str | Path,
        b: str | Path,
        task: str = "vif",
        reference: str | Path | None = None,
        dataset: str = "Folders",
        pairing: str | None = "stem",
        **options: Any,
    ) -> None:
        self._name = dataset
        for key, value in (("a", a), ("b", b)):
            if value is None:
                raise ConfigError(f"{key}: not given; expected a folder of images or one image file.")
        known = (*TASKS, *UNSEEN_TASKS)
        if task not in known:
            raise ConfigError(f"task={task}: unknown, expected one of {', '.join(known)}.")
        if (pairing or "stem") not in PAIRING:
            raise ConfigError(f"pairing={pairing}: unknown, expected one of {', '.join(PAIRING)}.")
        self.pairing = PAIRING[pairing or "stem"]
        super().__init__(Path(a).parent, **options)
        self.task = task
        self.a, self.b = Path(a), Path(b)
        self.reference = None if reference is None else Path(reference)

    @property
    def name(self) -> str:
        """The given name."""
        return self._name

    def find_pairs(self) -> list[Pair]:
        """One pair for two files, pairs by name for two folders."""
        if self.reference is not None and not self.reference.exists():
            raise DataError(f"{self.reference}: no such file or folder of references.")
        if self.a.is_file() and self.b.is_file():
            return [Pair(self.a.stem, self.a, self.b, self.reference)]
        if self.a.is_file() != self.b.is_file() and self.a.exists() and self.b.exists():
            raise DataError(f"a={self.a} and b={self.b}: one is a file, the other a folder; give two of a kind.")
        return pair_folders(
            self.a,
            self.b,
            self.reference,
            key=self.pairing,
            allow_unpaired=self.allow_unpaired,
            leave_out_doubles=True,
            layout=self.layout,
        )
