"""Pairs of one task made from the pictures of another, and quadruples that hold both: GIFNet's data.

What a batch holds (conf/data/gifnet.yaml; B crops of 128x128, uint8 until `FusionDataModule` makes them float):

| key | batch of task "vif" | batch of task "mff" |
|---|---|---|
| `a`, `b` | visible, infrared | far focus, near focus (made from the visible image) |
| `reference` | the visible image, clean | the same clean visible image |
| `auxiliary_a`, `auxiliary_b` | far focus, near focus | visible, infrared |
| `auxiliary_task` | "mff" | "vif" |

All are RGB `(B, 3, H, W)`; GIFNet takes their luma. `vif` and `mff` batches take turns, and with `data.same_scenes=true`
the two batches of a round show the same crops, as the official loop does when it steps for one task and then for the
other on one quadruple. With `gifnet_mef` the made pairs are over-/under-exposed and their task is "mef".
"""

import functools
from typing import Any, Literal

import torch

from fusion.data.dataset import PairDataset, Sample, Transform
from fusion.data.files.pairs import Pair
from fusion.data.seeds import derive_seed
from fusion.data.synthesis.rules import PairSynthesis
from fusion.data.transforms.pair import PairTransform
from fusion.errors import ConfigError

_LABELS = ("mask", "boxes", "labels")


class SyntheticPairs(PairDataset):
    """Multi-focus or multi-exposure pairs made from the images `a` of another data set, with the sharp, well exposed
    image as their reference.

    Crops are cut before anything is blurred, which differs from blurring the whole picture only within half a kernel of
    the crop's edge.

    Args:
        source: data set whose images `a` are the photographs, for example `LLVIP` or `Images`; select pairs there.
        synthesis: rule that makes the pairs; its task is theirs.
        main: what `a` and `b` are, the "synthetic" pair or the pair of the "source".
        auxiliary: also give the other of the two pairs, as `auxiliary_a` and `auxiliary_b`.
        draws: "image" draws threshold or exposure once for each image, as a prepared data set has it; "sample" draws
            anew each time the image is used.
        seed: of those draws.
        dataset: name in tables and batches; None: that of the source, with the task where the pairs are made.
        transform: as in `PairDataset`.

    Raises:
        ConfigError: an unknown `main` or `draws`.
    """

    is_random = True
    layout = "as its source"

    def __init__(
        self,
        source: PairDataset,
        synthesis: PairSynthesis,
        main: Literal["synthetic", "source"] = "synthetic",
        auxiliary: bool = False,
        draws: Literal["image", "sample"] = "image",
        seed: int = 0,
        dataset: str | None = None,
        transform: Transform | None = None,
    ) -> None:
        for key, value, known in (("main", main, ("synthetic", "source")), ("draws", draws, ("image", "sample"))):
            if value not in known:
                raise ConfigError(f"{key}={value}: unknown, expected {known[0]} or {known[1]}.")
        self.source, self.synthesis = source, synthesis
        self._name = dataset or (source.name if main == "source" else f"{source.name}-{synthesis.task}")
        super().__init__(source.root, transform=transform)
        self.split = source.split
        self.main, self.auxiliary, self.draws, self.seed = main, auxiliary, draws, seed
        self.task = synthesis.task if main == "synthetic" else source.task

    @property
    def name(self) -> str:
        """The given name, or one made from the source's."""
        return self._name

    def find_pairs(self) -> list[Pair]:
        """Those of the source."""
        return self.source.find_pairs()

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """Those of the source, selected there."""
        return self.source.pairs

    def preload(self, threads: int = 8) -> None:
        """As the source does."""
        self.source.preload(threads)

    def load(self, index: int) -> Sample:
        """The whole image, made with the seed of its name."""
        return self._make(index, derive_seed("whole image", self.seed, self.pairs[index].name), None)

    def draw(self, index: int, seed: int, transform: Transform | None = None) -> Sample:
        """Crop, then make the pair; see `PairDataset.draw`."""
        return self._make(index, seed, self.transform or transform)

    def _make(self, index: int, seed: int, transform: Transform | None) -> Sample:
        loaded, pair = self.source.load(index), self.pairs[index]
        # What holds for the image depends on its name alone, or on the sample's seed.
        decided_by = pair.name if self.draws == "image" else seed
        generator = torch.Generator().manual_seed(derive_seed("synthesis", self.seed, decided_by))
        plan = self.synthesis.plan(loaded["a"], pair.a, generator)
        sample = {"a": loaded["a"], **{key: loaded[key] for key in _LABELS if key in loaded}}
        if self.auxiliary or self.main == "source":
            sample["b"] = loaded["b"]
        if "near" in plan:
            sample["near"] = plan["near"]
        paired = transform if isinstance(transform, PairTransform) else None
        if transform is not None:
            sample = transform(sample, seed) if paired is None else paired.change(sample, seed)
        generator.manual_seed(derive_seed("noise", seed))
        clean = sample["a"]
        made = self.synthesis.make(clean, {**plan, "near": sample.pop("near", None)}, generator)
        given = clean, sample.get("b")
        first, second = (made, given) if self.main == "synthetic" else (given, made)
        gray = loaded["a_is_gray"]
        result: Sample = {
            **{key: sample[key] for key in _LABELS if key in sample},
            "a": first[0],
            "b": first[1],
            "reference": clean,
            "task": self.task,
            "name": pair.name,
            "dataset": self.name,
            "a_is_gray": gray,
            "b_is_gray": gray if self.main == "synthetic" else loaded["b_is_gray"],
        }
        if self.auxiliary:
            task = self.source.task if self.main == "synthetic" else self.synthesis.task
            result |= {"auxiliary_a": second[0], "auxiliary_b": second[1], "auxiliary_task": task}
        return result if paired is None else paired.exchange(result, seed)  # only now are there two to change places


class WithAuxiliary(PairDataset):
    """Pairs of one data set, each with a pair of another one drawn at random: GIFNet without its augmentation.

    Args:
        source: data set of the main pairs.
        other: data set of the auxiliary pairs, of another task; a seed decides which pair of it comes along.
        reference: "a" takes the image `a` of the main pair as `reference` where the set has none (visible image).
        transform: as in `PairDataset`; each pair is cropped by itself, to one size.

    Raises:
        ConfigError: both have one task.
    """

    is_random = True
    layout = "as its source"

    def __init__(
        self,
        source: PairDataset,
        other: PairDataset,
        reference: Literal["a"] | None = None,
        transform: Transform | None = None,
    ) -> None:
        if source.task == other.task:
            raise ConfigError(f"{source.name} and {other.name} both have the task '{source.task}', expected two tasks.")
        if reference not in (None, "a"):
            raise ConfigError(f"reference={reference}: unknown, expected a or null.")
        self.source, self.other, self.reference = source, other, reference
        super().__init__(source.root, transform=transform)
        self.split, self.task = source.split, source.task

    @property
    def name(self) -> str:
        """That of the source."""
        return self.source.name

    def find_pairs(self) -> list[Pair]:
        """Those of the source."""
        return self.source.find_pairs()

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """Those of the source, selected there."""
        return self.source.pairs

    def preload(self, threads: int = 8) -> None:
        """As both sources do."""
        self.source.preload(threads)
        self.other.preload(threads)

    def load(self, index: int) -> Sample:
        """The main pair alone, whole."""
        return self._referenced(self.source.load(index))

    def draw(self, index: int, seed: int, transform: Transform | None = None) -> Sample:
        """The main pair and, in training, one of the other set."""
        transform = self.transform or transform
        sample = self._referenced(self.source.draw(index, seed, transform))
        if transform is None:
            return sample
        place = derive_seed("auxiliary", seed) % len(self.other)
        companion: dict[str, Any] = self.other.draw(place, derive_seed("auxiliary crop", seed), transform)
        return {
            **sample,
            "auxiliary_a": companion["a"],
            "auxiliary_b": companion["b"],
            "auxiliary_task": companion["task"],
        }

    def _referenced(self, sample: Sample) -> Sample:
        return {**sample, "reference": sample["a"]} if self.reference and "reference" not in sample else sample
