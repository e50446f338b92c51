"""Splits of data sets of which only a part is there: the cut points shrink together, so that parts never overlap."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any


def share_cuts(datasets: Iterable[Any]) -> None:
    """Tell every data set of one draw (class, root, split, seed) where the others cut it; nothing is read from disk.

    Args:
        datasets: all `PairDataset`s of a data module.
    """
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for dataset in datasets:
        groups.setdefault((type(dataset), dataset.root, dataset.split, dataset.shuffle_seed), []).append(dataset)
    for group in groups.values():
        ends = {d.skip for d in group} | {d.skip + d.limit for d in group if d.limit is not None}
        for dataset in group:
            dataset.cuts = tuple(sorted(ends - {0}))
            dataset.last_skip = max(d.skip for d in group)


def shrink(
    skip: int,
    limit: int | None,
    *,
    there: int,
    published: int | None,
    cuts: Sequence[int] = (),
    last_skip: int | None = None,
    where: str = "",
) -> tuple[int, int | None]:
    """`skip` and `limit` for the pairs that are there.

    They stay as they are unless the set is smaller than published and some part of the split would be left with nothing:
    then every cut point moves in proportion, each at least one pair after the last.

    Args:
        skip, limit: as configured.
        there: number of pairs on disk.
        published: number of pairs that the split has as published; None: unknown.
        cuts: cut points of all parts drawn from this set, see `share_cuts`.
        last_skip: largest `skip` of those parts.
        where: the data set, for the warning.
    """
    last = skip if last_skip is None else max(skip, last_skip)
    if published is None or there >= published or there > last:
        return skip, limit
    end = None if limit is None else skip + limit
    moved, previous = {0: 0}, 0
    for cut in sorted({*cuts, skip, *([] if end is None else [end])} - {0}):
        previous = moved[cut] = max(previous + 1, math.ceil(cut * there / published))
    new_limit = None if end is None else max(1, moved[end] - moved[skip])
    if (moved[skip], new_limit) != (skip, limit):
        warnings.warn(
            f"{where}: {there} of {published} pairs are there, so the split shrinks with them: skip={skip}, limit={limit} "
            f"becomes skip={moved[skip]}, limit={new_limit}.",
            stacklevel=3,
        )
    return moved[skip], new_limit
