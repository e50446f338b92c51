"""The base of every data set of image pairs."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch.utils.data import Dataset

from fusion.data.files.cache import DiskCache
from fusion.data.files.image import Picture, read_image, read_pair, resize
from fusion.data.files.pairs import Pair
from fusion.data.files.partial import shrink
from fusion.data.files.selection import Names, select
from fusion.data.sample import Sample, SampleKey, Transform
from fusion.data.transforms.fit import Fit, check_fit
from fusion.data.transforms.pair import eval_transform
from fusion.data.transforms.pictures import fit_pictures
from fusion.errors import ConfigError, DataError

__all__ = ["PairDataset", "Sample", "SampleKey", "Transform"]


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
        fit: how it gets there: "stretch", "contain", "cover" or `[scale, dx, dy]`, see `fusion.data.transforms.fit.place`.
        resize: height and width, or shorter side, that everything is resized to when it is read (and so cached).
        cache: "ram" keeps decoded uint8 images in memory (see `preload`), "disk" in files that are mapped into memory,
            "none" decodes each time.
        cache_dir: folder of those files; None: `.cache` beside `root`.
        repeat: how often a pair comes in one pass of the training, for small sets beside large ones.
        group: name under which training alternates between sets, in place of their task.
        dataset: name in tables and batches, in place of the class's.
        instruction: text that goes with every pair, for models that take one.
        transform: applied to each sample with the seed of its key.

    Raises:
        ConfigError: an unknown split, cache or size.
        DataError: on first use, if the folder, a pair or an image is not as expected.
    """

    task: str
    """What `a` and `b` are: "vif" visible/infrared, "mef" over-/under-exposed, "mff" far/near focus."""
    layout: ClassVar[str]
    """The expected tree, shown when something is missing."""
    page: ClassVar[str] = ""
    """Where to get it, in words."""
    splits: ClassVar[tuple[str, ...]] = ("all",)
    counts: ClassVar[tuple[int, ...]] = ()
    """Pairs of each split as published; empty where papers differ."""
    is_random: bool = False
    """Whether `draw` depends on the seed even without a transform."""

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
        fit: Fit = "stretch",
        resize: int | Sequence[int] | None = None,
        cache: Literal["none", "ram", "disk"] = "none",
        cache_dir: str | Path | None = None,
        repeat: int = 1,
        group: str | None = None,
        dataset: str | None = None,
        instruction: str | None = None,
        transform: Transform | None = None,
    ) -> None:
        self._dataset = dataset
        if split is not None and split not in self.splits:
            raise ConfigError(f"{self.name}: unknown split '{split}', expected one of: {', '.join(self.splits)}.")
        if cache not in ("none", "ram", "disk"):
            raise ConfigError(f"{self.name}: unknown cache '{cache}', expected none, ram or disk.")
        if match_size not in (None, "a", "b"):
            raise ConfigError(f"{self.name}: unknown match_size '{match_size}', expected a, b or null.")
        if repeat < 1:
            raise ConfigError(f"{self.name}: repeat={repeat}: expected at least 1.")
        self.root, self.repeat = Path(root), repeat
        self.split = self.splits[0] if split is None else split
        self.include, self.exclude = include, exclude
        self.skip, self.limit, self.shuffle_seed = skip, limit, shuffle_seed
        self.allow_unpaired = allow_unpaired
        self.match_size = match_size
        self.fit = check_fit(fit)
        self.resize, self._resize = resize, eval_transform(resize)
        self.cache = cache
        self.cache_dir = self.root.parent / ".cache" if cache_dir is None else Path(cache_dir)
        self._group = group
        self.instruction = instruction
        self.transform = transform
        self._decoded: dict[int, Sample] = {}
        self.cuts: tuple[int, ...] = ()  # see `share_cuts`
        self.last_skip = skip
        self.found = 0

    @property
    def name(self) -> str:
        """Name of the data set in tables, logs and batches."""
        return self._dataset or type(self).__name__

    @property
    def group(self) -> str:
        """What training alternates between: the given group, else the task."""
        return self._group or self.task

    @property
    def published_count(self) -> int | None:
        """Pairs that the split has as published, None where that is not one number."""
        return dict(zip(self.splits, self.counts, strict=False)).get(self.split)

    @abstractmethod
    def find_pairs(self) -> list[Pair]:
        """Pairs of the split in natural order, before any selection."""

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """The selected pairs, found on first use; their number before the selection is then in `found`."""
        try:
            found = self.find_pairs()
        except DataError as error:
            raise DataError(f"{self.name}: {error}{self._where_to_get()}") from None
        self.found = len(found)
        skip, limit = self.skip, self.limit
        if self.include is None and self.exclude is None:
            known: dict[str, Any] = {"published": self.published_count, "cuts": self.cuts, "last_skip": self.last_skip}
            skip, limit = shrink(skip, limit, there=len(found), where=f"{self.name} ({self.root})", **known)
        selected = select(
            found,
            include=self.include,
            exclude=self.exclude,
            skip=skip,
            limit=limit,
            shuffle_seed=self.shuffle_seed,
            where=f"{self.name} ({self.root})",
        )
        try:
            return self.with_labels(selected)
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from None

    def with_labels(self, pairs: list[Pair]) -> list[Pair]:
        """The selected pairs with the files of their labels; data sets that have labels say how."""
        return pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """Sample of a key; a plain index draws the seed from torch's global generator, as a DataLoader expects."""
        index = key.index if isinstance(key, SampleKey) else int(key)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} pairs, index {index} is out of range.")
        index %= len(self)
        if self.transform is None and not self.is_random:
            return self.draw(index, 0)
        return self.draw(index, key.seed if isinstance(key, SampleKey) else int(torch.randint(2**62, ())))

    def draw(self, index: int, seed: int, transform: Transform | None = None) -> Sample:
        """Sample of an index; the seed decides everything random. A transform of the data set's own goes first.

        Data sets that make their images from others override this, to do so after cropping.
        """
        sample = self.load(index)
        transform = self.transform or transform
        return sample if transform is None else transform(sample, seed)

    def load(self, index: int) -> Sample:
        """Sample without any transform, from memory if it is cached; the dictionary is the caller's own."""
        if index in self._decoded:
            return dict(self._decoded[index])
        pair = self.pairs[index]
        sample = self._from_disk(pair) if self.cache == "disk" else self._decode(pair)
        if self.cache == "ram":
            self._decoded[index] = sample
        return dict(sample)

    def preload(self, threads: int = 8) -> None:
        """With `cache="ram"` decode everything now, so that worker processes forked later share the memory."""
        if self.cache == "ram" and len(self._decoded) < len(self):
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(self.load, range(len(self))))

    def read_labels(self, pair: Pair, size: tuple[int, int]) -> Sample:
        """`mask`, or `boxes` and `labels`, of a pair whose images have this height and width; nothing by default."""
        return {}

    def cache_key(self) -> str:
        """Everything but the files that decides what `load` gives."""
        fit = "" if self.fit == "stretch" else f" {self.fit}"
        return f"{self.name} {self.match_size}{fit} {self.resize}"

    def _from_disk(self, pair: Pair) -> Sample:
        disk = DiskCache(self.cache_dir, self.cache_key())
        tensors = disk.get(pair)
        if tensors is None:
            sample = self._decode(pair)
            disk.put(pair, sample)
            return sample
        gray = {f"{key}_is_gray": tensors[key].stride(0) == 0 for key in ("a", "b")}
        return {**self._described(pair), **gray, **tensors}

    def _decode(self, pair: Pair) -> Sample:
        sample = self._read(pair)
        return sample if self._resize is None else self._resize(sample)

    def _described(self, pair: Pair) -> Sample:
        text = {} if self.instruction is None else {"instruction": self.instruction}
        return {"task": self.task, "name": pair.name, "dataset": self.name, **text}

    def _read(self, pair: Pair) -> Sample:
        a, b = self._read_pair(pair)
        sample: Sample = {
            "a": a.pixels,
            "b": b.pixels,
            **self._described(pair),
            "a_is_gray": a.is_gray,
            "b_is_gray": b.is_gray,
            **self.read_labels(pair, (a.pixels.shape[-2], a.pixels.shape[-1])),
        }
        if pair.reference is not None:
            sample["reference"] = self._read_reference(pair, a)
        return sample

    def _read_pair(self, pair: Pair) -> tuple[Picture, Picture]:
        if self.match_size is None or self.fit == "stretch":
            return read_pair(pair.a, pair.b, self.match_size)
        return fit_pictures(read_image(pair.a), read_image(pair.b), self.match_size, self.fit, str(pair.b))

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
