"""Several data sets as one: what the samplers index."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

from torch.utils.data import Dataset

from fusion.data.dataset import PairDataset
from fusion.data.sample import Sample, SampleKey, Transform


class JointDataset(Dataset[Sample]):
    """Data sets one after the other, those of one group side by side; the group is the task unless a set names its own.

    Args:
        datasets: the parts.
        tasks: order of the groups; parts of other groups are left out. None: order of first appearance.
        transforms: by group, for parts that bring no transform of their own.
    """

    def __init__(
        self,
        datasets: Sequence[PairDataset],
        tasks: Sequence[str] | None = None,
        transforms: Mapping[str, Transform | None] | None = None,
    ) -> None:
        order = list(dict.fromkeys(dataset.group for dataset in datasets)) if tasks is None else list(tasks)
        self.datasets = [dataset for task in order for dataset in datasets if dataset.group == task]
        self.transforms = dict(transforms or {})
        self._ends = list(accumulate(len(dataset) for dataset in self.datasets))
        self.spans: dict[str, range] = {}
        for dataset, end in zip(self.datasets, self._ends, strict=True):
            start = end - len(dataset)
            self.spans[dataset.group] = range(self.spans.get(dataset.group, range(start, end)).start, end)

    @property
    def tasks(self) -> list[str]:
        """Group of every index."""
        return [dataset.group for dataset in self.datasets for _ in range(len(dataset))]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """Sample of a key; a plain index counts as seed 0, for transforms without randomness."""
        index, seed = key if isinstance(key, SampleKey) else (key, 0)
        part = bisect_right(self._ends, index)
        dataset = self.datasets[part]
        local = index - (self._ends[part] - len(dataset))
        return dataset.draw(local, seed, self.transforms.get(dataset.group))
