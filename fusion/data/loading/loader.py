"""Samples to batches, and a training loader that can be saved and resumed at any batch."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fusion.data.batch import IMAGE_KEYS, FusionBatch
from fusion.data.loading.joint import JointDataset
from fusion.data.loading.sampler import AlternatingBatchSampler
from fusion.data.sample import Sample
from fusion.errors import ConfigError, DataError

_STACKED = (*IMAGE_KEYS, "mask")
_SHARED = ("task", "auxiliary_task")  # one value per batch


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collate(samples: list[Sample]) -> dict[str, Any]:
    """Samples of one task to a batch that is a `FusionBatch` but for its uint8 images, which `to_float` converts.

    Images travel to the device as bytes, a quarter of the traffic. Optional keys are kept where every sample has them.

    Raises:
        DataError: the images differ in size.
    """
    sizes = {tuple(sample["a"].shape[-2:]) for sample in samples}
    if len(sizes) > 1:
        names = ", ".join(f"{s['name']} {s['a'].shape[-1]}x{s['a'].shape[-2]}" for s in samples[:5])
        raise DataError(
            f"A batch needs images of one size ({names}); use eval_batch_size=1, or set val_crop or resize."
        )
    batch: dict[str, Any] = {}
    for key in samples[0]:
        if not all(key in sample for sample in samples):
            continue
        values = [sample[key] for sample in samples]
        if key in _SHARED:
            batch[key] = values[0]
        else:
            batch[key] = _stack(values) if key in _STACKED else values
    return batch


def _stack(values: list[Tensor]) -> Tensor:
    """Stack pictures in the order their values have in memory: sorting them by channel is for the device."""
    if all(value.ndim == 3 and value.shape[0] == 3 and value.stride()[::2] == (1, 3) for value in values):
        return torch.stack([value.permute(1, 2, 0) for value in values]).permute(0, 3, 1, 2)
    return torch.stack(values)


def to_float(batch: Mapping[str, Any]) -> FusionBatch:
    """The batch with its images as float32 in [0, 1] and its masks as int64; what is so already stays as it is."""
    changed = {
        key: value.to(torch.float32, memory_format=torch.contiguous_format) / 255.0
        for key, value in batch.items()
        if key in IMAGE_KEYS and isinstance(value, Tensor) and value.dtype == torch.uint8
    }
    if isinstance(mask := batch.get("mask"), Tensor):
        changed["mask"] = mask.long()
    return cast(FusionBatch, {**batch, **changed})


class FusionDataLoader(DataLoader[Sample]):
    """Training loader that knows how many batches were taken from it, and continues there.

    Worker processes read ahead of the training loop; the position counts what was handed out, not what was read. Each
    iteration brings as many batches as an epoch has, from the position on.

    Args:
        dataset: what the batch sampler indexes.
        batch_sampler: the order.
        options: those of `DataLoader` that do not concern the order.
    """

    batch_sampler: AlternatingBatchSampler

    def __init__(self, dataset: JointDataset, batch_sampler: AlternatingBatchSampler, **options: Any) -> None:
        options.setdefault("collate_fn", collate)
        super().__init__(dataset, batch_sampler=batch_sampler, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator, so that it starts at the first batch: Lightning may restore the position after it calls iter().
        for batch in super().__iter__():
            self.batch_sampler.position += 1
            yield batch

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def state_dict(self) -> dict[str, Any]:
        """Number of batches taken, and what it is counted in; plain values that any checkpoint can hold."""
        return {"position": self.batch_sampler.position, **self._units()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a saved position.

        Raises:
            ConfigError: the position was counted with other data, seed or batch size.
        """
        for key, value in self._units().items():
            if key in state and state[key] != value:
                raise ConfigError(
                    f"data.{key} is {value} but the checkpoint was saved with {state[key]}: the data order cannot be "
                    "continued; use the saved value, or start a new run from the weights alone."
                )
        self.batch_sampler.position = int(state["position"])

    def _units(self) -> dict[str, Any]:
        sampler = self.batch_sampler
        return {
            "seed": sampler.seed,
            "global_batch_size": sampler.global_batch_size,
            "pairs": {task: len(span) for task, span in sampler.spans.items()},
        }
