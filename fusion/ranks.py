"""What the processes of a distributed run found, brought together."""

from collections.abc import Hashable, Iterable
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def of_all_ranks(value: T) -> list[T]:
    """The value of every rank, in the order of ranks; a list of one without distributed processes.

    Every rank must call it. The value is pickled, so tensors should be on the CPU.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, value)
    return parts


def gather_images(items: Iterable[tuple[K, T]]) -> dict[K, T]:
    """Results by image of all ranks: each image once, however often samplers repeat it, in one order everywhere.

    Args:
        items: this rank's images and their results; images are known by something that sorts, such as a name.

    >>> gather_images([("street", 0.5), ("forest", 0.25), ("street", 0.5)])
    {'forest': 0.25, 'street': 0.5}
    """
    unique = dict(item for part in of_all_ranks(list(items)) for item in part)
    return {key: unique[key] for key in sorted(unique)}  # type: ignore[type-var]  # keys that do not sort are a bug
