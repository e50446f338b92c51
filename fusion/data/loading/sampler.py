"""Samplers: the batch at a position is a function of (seed, task, position), so that only the position is saved.

Every task has an endless stream of samples: one permutation of its data after another. A round takes the next
`world_size * batch_size` positions of every task's stream, task after task, one batch each; rank r gets the r-th slice.
So W processes with batches of b see together what one process with batches of W*b sees, and any batch can be named
without drawing those before it. The streams never jump back or ahead: an epoch is only a number of batches, and a
shortened or interrupted one is followed by the very next batch.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch.utils.data import Sampler

from fusion.data.sample import SampleKey
from fusion.data.seeds import derive_seed
from fusion.errors import ConfigError


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, task: str, number: int, length: int) -> list[int]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "permutation", task, number))
    return torch.randperm(length, generator=generator).tolist()


class AlternatingBatchSampler(Sampler[list[SampleKey]]):
    """Batches of one task each, the tasks taking turns, every task with an equal share.

    Args:
        spans: for each task, in the order they take turns, the range of its indices in the joint data set.
        batch_size: pairs per batch and process.
        seed: of order and augmentation; the same for all ranks.
        rank: of this process.
        world_size: number of processes.
        epoch_by: the task whose data an epoch passes over once, rounded up to whole batches; "longest" or "shortest" of
            the tasks. A task that is not there means "longest".
        rounds_per_epoch: fixed number of rounds instead.
        repeat_epoch: every epoch brings the first batches again, to overfit a few.
        same_scenes: all tasks draw the same places with the same seeds, so that the batches of a round show the same
            crops of the same scenes; needs as many pairs of every task.

    Raises:
        ConfigError: no data, a number below 1, or `same_scenes` with tasks of different length.
    """

    def __init__(
        self,
        spans: Mapping[str, range],
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        epoch_by: str = "vif",
        rounds_per_epoch: int | None = None,
        repeat_epoch: bool = False,
        same_scenes: bool = False,
    ) -> None:
        if not spans or not all(len(span) for span in spans.values()):
            raise ConfigError("data: every task to train on needs at least one pair.")
        if batch_size < 1:
            raise ConfigError(f"data.batch_size={batch_size}: expected at least 1.")
        if rounds_per_epoch is not None and rounds_per_epoch < 1:
            raise ConfigError(f"data.rounds_per_epoch={rounds_per_epoch}: expected at least 1, or null.")
        self.spans = dict(spans)
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self.rounds = rounds_per_epoch or self._rounds_by(epoch_by)
        self.repeat_epoch = repeat_epoch
        self.same_scenes = same_scenes
        if same_scenes and len({len(span) for span in spans.values()}) > 1:
            lengths = ", ".join(f"{task} {len(span)}" for task, span in spans.items())
            raise ConfigError(f"data.same_scenes=true needs as many pairs of every task, but there are {lengths}.")
        self.position = 0

    @property
    def global_batch_size(self) -> int:
        """Pairs that all processes together take from one task per round."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.rounds * len(self.spans)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """As many batches as an epoch has, from `position` on (which whoever takes the batches moves)."""
        first = 0 if self.repeat_epoch else self.position
        for number in range(first, first + len(self)):
            yield self.batch(number)

    def batch(self, number: int) -> list[SampleKey]:
        """This rank's share of a batch, counted from the start of training."""
        tasks = list(self.spans)
        round_number, turn = divmod(number, len(tasks))
        first = round_number * self.global_batch_size + self.rank * self.batch_size
        return [self.key(tasks[turn], position) for position in range(first, first + self.batch_size)]

    def key(self, task: str, position: int) -> SampleKey:
        """The sample at a position of a task's stream."""
        span = self.spans[task]
        stream = "all" if self.same_scenes else task
        number, place = divmod(position, len(span))
        index = span[_permutation(self.seed, stream, number, len(span))[place]]
        return SampleKey(index, derive_seed(self.seed, "sample", stream, position))

    def _rounds_by(self, epoch_by: str) -> int:
        lengths = {task: len(span) for task, span in self.spans.items()}
        extreme = min if epoch_by == "shortest" else max
        pairs = lengths.get(epoch_by, extreme(lengths.values()))
        return -(-pairs // self.global_batch_size)


class EvalBatchSampler(Sampler[list[int]]):
    """Every index exactly once over all ranks, in order, each batch of one task: no shuffling, padding or repeats.

    Args:
        tasks: task of every index.
        batch_size: largest number of pairs per batch.
        rank: of this process; it gets every `world_size`-th index from its own number on.
        world_size: number of processes.
    """

    def __init__(self, tasks: Sequence[str], batch_size: int = 1, *, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1:
            raise ConfigError(f"data.eval_batch_size={batch_size}: expected at least 1.")
        self.batches: list[list[int]] = []
        previous = None
        for index in range(rank, len(tasks), world_size):
            if tasks[index] != previous or len(self.batches[-1]) == batch_size:
                self.batches.append([])
            self.batches[-1].append(index)
            previous = tasks[index]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.batches
