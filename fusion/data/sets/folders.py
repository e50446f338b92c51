"""Anyone's images: two folders or two files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.data.batch import TASKS, UNSEEN_TASKS
from fusion.data.dataset import PairDataset
from fusion.data.files.formats import READABLE, stem_of
from fusion.data.files.pairing import RULES, pair_files_of
from fusion.data.files.pairs import Pair, expected
from fusion.data.transforms.fit import Fit
from fusion.errors import ConfigError, DataError


class Folders(PairDataset):
    """Pairs of two folders by file name (endings may differ), or one pair of two files.

    Args:
        a: folder or file of the sources `a`: visible, over-exposed or focused far.
        b: folder or file of the sources `b`: infrared, under-exposed or focused near.
        task: "vif", "mef" or "mff", or one that the model knows besides: "medical", "nir", "pansharpening".
        reference: folder or file of ground truth, if there is any.
        dataset: name in tables and batches.
        pairing: what has to agree in the names: "stem", "number", "prefix", "suffix", "order" or "auto", see
            `fusion.data.files.pairing`. None is "auto".
        recursive: look into sub-folders, which have to agree.
        ignore: folders that are left out, such as that of the results.
        fit: how `match_size` brings one source to the other's size, "contain" by default.
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
        pairing: str | None = "auto",
        recursive: bool = True,
        ignore: Sequence[str | Path] = (),
        fit: Fit = "contain",
        **options: Any,
    ) -> None:
        self._name = dataset
        for key, value in (("a", a), ("b", b)):
            if value is None:
                raise ConfigError(f"{key}: not given; expected a folder of images or one image file.")
        known = (*TASKS, *UNSEEN_TASKS)
        if task not in known:
            raise ConfigError(f"task={task}: unknown, expected one of {', '.join(known)}.")
        self.pairing = str(pairing or "auto")
        if self.pairing not in RULES:
            raise ConfigError(f"pairing={pairing}: unknown, expected one of {', '.join(RULES)}.")
        super().__init__(Path(str(a)).parent, fit=fit, **options)
        self.task = task
        self.a, self.b = Path(str(a)).expanduser(), Path(str(b)).expanduser()  # numbers are names too
        self.reference = None if reference is None else Path(str(reference))
        self.recursive, self.ignore = recursive, [Path(path) for path in ignore]
        self.paired_by: str | None = None

    @property
    def name(self) -> str:
        """The given name."""
        return self._name

    def find_pairs(self) -> list[Pair]:
        """One pair for two files, pairs by name for two folders."""
        if self.reference is not None and not self.reference.exists():
            raise DataError(f"{self.reference}: no such file or folder of references.")
        for key, path in (("a", self.a), ("b", self.b)):
            if not path.exists():
                if path.suffix.lower() in READABLE:
                    raise DataError(f"{key}={path}: no such file.")
                raise DataError(f"{key}={path}: no such folder or file.{expected(self.layout)}")
        if self.a.is_file() and self.b.is_file():
            return [Pair(stem_of(self.a), self.a, self.b, self.reference)]
        if self.a.is_file() != self.b.is_file():
            raise DataError(f"a={self.a} and b={self.b}: one is a file, the other a folder; give two of a kind.")
        pairs, self.paired_by = pair_files_of(
            self.a,
            self.b,
            self.reference,
            rule=self.pairing,
            recursive=self.recursive,
            ignore=self.ignore,
            allow_unpaired=self.allow_unpaired,
            layout=self.layout,
        )
        return pairs
