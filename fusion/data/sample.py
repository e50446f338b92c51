"""Types of one sample of a data set, and of the transforms that change it."""

from collections.abc import Callable
from typing import Any, NamedTuple

Sample = dict[str, Any]
"""`a`, `b` and perhaps `reference` `(3, H, W)` uint8 RGB; `task`, `name`, `dataset`; `a_is_gray`, `b_is_gray`; labels
where there are any: `mask` `(H, W)` uint8, `boxes` `(n, 4)` float32 xyxy in pixels and `labels` `(n,)` int64."""

Transform = Callable[[Sample, int], Sample]
"""Takes a sample and a seed; all its randomness comes from the seed."""


class SampleKey(NamedTuple):
    """Which pair, and the seed of everything random that is done to it."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a key
    seed: int
