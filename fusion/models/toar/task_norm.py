"""Batch norms with running statistics by task (ours, an option): tasks that take turns leave each other's alone."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.models.toar.instructions import PLAIN, Instructions


class TaskBatchNorm2d(nn.Module):
    """Batch norm whose weight and bias all tasks share, and whose running statistics each task has for itself.

    Args:
        channels: C.
        tasks: their number, T.
        eps, momentum: as in `torch.nn.BatchNorm2d`.

    Attributes:
        shares: `(B, T)` of the images that come next, see `choose_tasks`. None: all tasks alike.
    """

    running_mean: Tensor  # (T, C)
    running_var: Tensor  # (T, C)
    num_batches_tracked: Tensor  # (T,)

    def __init__(self, channels: int, tasks: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(tasks, channels))
        self.register_buffer("running_var", torch.ones(tasks, channels))
        self.register_buffer("num_batches_tracked", torch.zeros(tasks, dtype=torch.long))
        self.shares: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same; in evaluation by the statistics of each image's tasks, mixed by their shares."""
        count, tasks = len(features), len(self.running_mean)
        shares = torch.full((count, tasks), 1 / tasks) if self.shares is None else self.shares
        if self.training:
            return self._by_batch(features, shares)
        shares = shares.to(self.running_mean)
        mean, variance = shares @ self.running_mean, shares @ self.running_var
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (features * scale[..., None, None] + shift[..., None, None]).to(features.dtype)

    def _by_batch(self, features: Tensor, shares: Tensor) -> Tensor:
        """Images of a task by their own statistics, which it keeps; those of no one task by theirs, which nobody does."""
        task_of = [row.index(1.0) if 1.0 in row else None for row in shares.tolist()]
        kinds = list(dict.fromkeys(task_of))
        made = features.new_empty(features.shape) if len(kinds) > 1 else None
        for task in kinds:
            rows = [row for row, kind in enumerate(task_of) if kind == task]
            mean, variance = (None, None) if task is None else (self.running_mean[task], self.running_var[task])
            group = features if made is None else features[rows]
            normed = F.batch_norm(group, mean, variance, self.weight, self.bias, True, self.momentum, self.eps)
            if task is not None:
                self.num_batches_tracked[task] += 1
            if made is None:
                return normed
            made[rows] = normed
        assert made is not None
        return made


def separate_tasks(module: nn.Module, tasks: int) -> None:
    """Put a `TaskBatchNorm2d` in place of every `BatchNorm2d` inside a module."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, TaskBatchNorm2d(child.num_features, tasks, child.eps, child.momentum or 0.1))
        else:
            separate_tasks(child, tasks)


def choose_tasks(module: nn.Module, shares: Tensor | None) -> None:
    """Tell the norms inside a module which tasks the next images are for: `(B, T)`, rows that sum to 1."""
    for norm in module.modules():
        if isinstance(norm, TaskBatchNorm2d):
            norm.shares = shares


def task_shares(
    instruction: str | Sequence[str] | Mapping[str, float] | None,
    count: int,
    instructions: Instructions,
    recognise: Callable[[str], str | None],
) -> Tensor:
    """How much each of `count` images is for each task, `(B, T)` in the order of `instructions`.

    Args:
        instruction: as `TOAR.forward` takes it; of no known task: for all of them alike.
        count: B.
        instructions: the sentences by task.
        recognise: the known sentence that a sentence means, see `Recognition`.
    """
    sentences = [instruction] * count if isinstance(instruction, str) else list(instruction or ())
    meant = [None if sentence == PLAIN else recognise(str(sentence)) for sentence in sentences]
    tasks = [instructions.task_of(text) if text and instructions.knows(text) else None for text in meant]
    shares = shares_of(tasks, list(instructions.sentences))
    if not isinstance(instruction, Mapping):
        return shares
    weights = shares.new_tensor([max(float(weight), 0.0) for weight in instruction.values()])
    if not weights.any():
        weights += 1
    return ((weights / weights.sum()) @ shares).expand(count, -1)


def shares_of(tasks: Sequence[str | None], known: Sequence[str]) -> Tensor:
    """One row per image `(B, T)`: 1 for its task; None is of all tasks alike."""
    rows = [[float(task == name) if task is not None else 1 / len(known) for name in known] for task in tasks]
    return torch.tensor(rows)
