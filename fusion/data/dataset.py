"""The base of every data set of image pairs."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch.utils.data import Dataset

from fusion.data.image import Picture, read_image, read_pair, resize
from fusion.data.pairs import Pair
from fusion.data.selection import Names, select
from fusion.errors import ConfigError, DataError

Sample = dict[str, Any]
"""`a`, `b` and perhaps `reference` `(3, H, W)` uint8 RGB; `task`, `name`, `dataset`; `a_is_gray`, `b_is_gray`."""

Transform = Callable[[Sample, int], Sample]
"""Takes a sample and a seed; all its randomness comes from the seed."""


class SampleKey(NamedTuple):
    """Which pair, and the seed of everything random that is done to it."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a key
    seed: int


class PairDataset(Dataset[Sample], ABC):
    """Image pairs of one task on disk.

    Nothing is read from disk before the first use, so a data set can be described before it is downloaded.

    Args:
        root: folder of the data set, see `layout`.
        split: one of `splits`; the first is the default.
        include: keep only these names: a list, a text file with one per line, or a packaged list (`mefb_heldout`).
        exclude: drop these names, given in the same ways.
        skip: leave out so many pairs first; `skip=n` and `limit=n` never overlap.
        limit: keep at most so many of the rest, the first ones or, with `shuffle_seed`, a fixed random choice.
        shuffle_seed: seed of that choice.
        allow_unpaired: use the matching pairs and warn where names are left over, instead of refusing.
        match_size: "a" or "b" resizes the other image where the sizes of a pair differ, None refuses.
        cache: "ram" keeps decoded uint8 images in memory (see `preload`), "none" decodes each time.
        transform: applied to each sample with the seed of its key.

    Raises:
        ConfigError: an unknown split or cache.
        DataError: on first use, if the folder, a pair or an image is not as expected.
    """

    task: str
    """What `a` and `b` are: "vif" visible/infrared, "mef" over-/under-exposed, "mff" far/near focus."""
    layout: ClassVar[str]
    """The expected tree, shown when something is missing."""
    page: ClassVar[str] = ""
    """Where to get it, in words."""
    splits: ClassVar[tuple[str, ...]] = ("all",)

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        include: Names | None = None,
        exclude: Names | None = None,
        skip: int = 0,
        limit: int | None = None,
        shuffle_seed: int | None = None,
        allow_unpaired: bool = False,
        match_size: Literal["a", "b"] | None = None,
        cache: Literal["none", "ram"] = "none",
        transform: Transform | None = None,
    ) -> None:
        if split is not None and split not in self.splits:
            raise ConfigError(f"{self.name}: unknown split '{split}', expected one of: {', '.join(self.splits)}.")
        if cache not in ("none", "ram"):
            raise ConfigError(f"{self.name}: unknown cache '{cache}', expected none or ram.")
        if match_size not in (None, "a", "b"):
            raise ConfigError(f"{self.name}: unknown match_size '{match_size}', expected a, b or null.")
        self.root = Path(root)
        self.split = self.splits[0] if split is None else split
        self.include, self.exclude = include, exclude
        self.skip, self.limit, self.shuffle_seed = skip, limit, shuffle_seed
        self.allow_unpaired = allow_unpaired
        self.match_size = match_size
        self.cache = cache
        self.transform = transform
        self._decoded: dict[int, Sample] = {}

    @property
    def name(self) -> str:
        """Name of the data set in tables, logs and batches."""
        return type(self).__name__

    @abstractmethod
    def find_pairs(self) -> list[Pair]:
        """Pairs of the split in natural order, before any selection."""

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """The selected pairs, found on first use."""
        try:
            found = self.find_pairs()
        except DataError as error:
            raise DataError(f"{self.name}: {error}{self._where_to_get()}") from None
        return select(
            found,
            include=self.include,
            exclude=self.exclude,
            skip=self.skip,
            limit=self.limit,
            shuffle_seed=self.shuffle_seed,
            where=f"{self.name} ({self.root})",
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """Sample of a key; a plain index draws the seed from torch's global generator, as a DataLoader expects."""
        index = key.index if isinstance(key, SampleKey) else int(key)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} pairs, index {index} is out of range.")
        index %= len(self)
        sample = self.load(index)
        if self.transform is None:
            return sample
        seed = key.seed if isinstance(key, SampleKey) else int(torch.randint(2**62, ()))
        return self.transform(sample, seed)

    def load(self, index: int) -> Sample:
        """Sample without any transform, from memory if it is cached; the dictionary is the caller's own."""
        if index in self._decoded:
            return dict(self._decoded[index])
        sample = self._read(self.pairs[index])
        if self.cache == "ram":
            self._decoded[index] = sample
        return dict(sample)

    def preload(self, threads: int = 8) -> None:
        """With `cache="ram"` decode everything now, so that worker processes forked later share the memory."""
        if self.cache == "ram" and len(self._decoded) < len(self):
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(self.load, range(len(self))))

    def _read(self, pair: Pair) -> Sample:
        a, b = read_pair(pair.a, pair.b, self.match_size)
        sample: Sample = {
            "a": a.pixels,
            "b": b.pixels,
            "task": self.task,
            "name": pair.name,
            "dataset": self.name,
            "a_is_gray": a.is_gray,
            "b_is_gray": b.is_gray,
        }
        if pair.reference is not None:
            sample["reference"] = self._read_reference(pair, a)
        return sample

    def _read_reference(self, pair: Pair, a: Picture) -> torch.Tensor:
        assert pair.reference is not None
        reference = read_image(pair.reference).pixels
        if reference.shape != a.pixels.shape:
            if self.match_size is None:
                sizes = [f"{image.shape[-1]}x{image.shape[-2]}" for image in (reference, a.pixels)]
                raise DataError(
                    f"{pair.reference} is {sizes[0]}, its sources {sizes[1]}; align them or set match_size=a."
                )
            reference = resize(reference, a.pixels.shape[-2:])
        return reference

    def _where_to_get(self) -> str:
        return f"\nWhere to get it: {self.page}" if self.page else ""

    def __repr__(self) -> str:
        return f"{self.name}(root='{self.root}', split='{self.split}', task='{self.task}')"
