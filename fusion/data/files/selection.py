"""Choosing part of a data set by name: include and exclude lists, seeded subsets."""

import fnmatch
import hashlib
import warnings
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from fusion.data.files.pairs import Pair, natural_key
from fusion.errors import ConfigError, DataError
from fusion.names import first_five, fold

Names = str | Path | Iterable[str]
"""Names themselves, a text file of them, or the name of a list that comes with the package."""


def read_names(names: Names) -> list[str]:
    """Names from a list, from a text file (one per line, `#` starts a comment) or from a packaged list.

    Args:
        names: a list of names; a path to a text file; or the name of a file in `fusion/data/lists`, without ending.

    Raises:
        ConfigError: no such file or packaged list.
    """
    if not isinstance(names, str | Path):
        return [str(name) for name in names]
    packaged = resources.files("fusion.data") / "lists" / f"{names}.txt"
    if Path(names).is_file():
        text = Path(names).read_text(encoding="utf-8")
    elif packaged.is_file():
        text = packaged.read_text(encoding="utf-8")
    else:
        lists = (resources.files("fusion.data") / "lists").iterdir()
        known = sorted(item.name.removesuffix(".txt") for item in lists if item.name.endswith(".txt"))
        raise ConfigError(f"{names}: neither a text file of names nor one of the known lists ({', '.join(known)}).")
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def select(
    pairs: list[Pair],
    *,
    include: Names | None = None,
    exclude: Names | None = None,
    skip: int = 0,
    limit: int | None = None,
    shuffle_seed: int | None = None,
    where: str = "",
) -> list[Pair]:
    """Keep part of `pairs`, in their order.

    Args:
        pairs: what to choose from.
        include: keep only these names; `*` and `?` stand for any text and any letter.
        exclude: drop these names, in the same way.
        skip: leave out so many first; what `skip=n` keeps and what `limit=n` keeps never overlap.
        limit: keep at most this many of the rest: the first ones, or a random choice if `shuffle_seed` is given.
        shuffle_seed: seed of that choice. A name's place in the draw depends on the seed and the name alone, so the
            choice is the same on every machine and version.
        where: the data set, for messages.

    Raises:
        DataError: a name to include does not exist, or nothing is left.
        ConfigError: an unknown list, `limit` below 1 or `skip` below 0.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"{where}: limit={limit}, expected at least 1 or null for all pairs.")
    if skip < 0:
        raise ConfigError(f"{where}: skip={skip}, expected 0 or more.")
    if include is not None:
        pairs, missing = _partition(pairs, read_names(include))[::2]
        if missing:
            raise DataError(f"{where}: {len(missing)} names to include do not exist: {first_five(sorted(missing))}.")
    if exclude is not None:
        _, pairs, missing = _partition(pairs, read_names(exclude))
        if missing:
            warnings.warn(
                f"{where}: {len(missing)} names to exclude do not exist: {first_five(sorted(missing))}.", stacklevel=2
            )
    if not pairs:
        raise DataError(
            f"{where}: include/exclude leave no pair; check the names (they are file names without ending)."
        )
    if skip >= len(pairs):
        raise DataError(f"{where}: skip={skip} leaves none of its {len(pairs)} pairs.")
    if skip or (limit is not None and limit < len(pairs)):
        if shuffle_seed is not None:
            pairs = sorted(pairs, key=lambda pair: _draw(shuffle_seed, pair.name))
        end = None if limit is None else skip + limit
        pairs = sorted(pairs[skip:end], key=lambda pair: natural_key(pair.name))
    return pairs


def _partition(pairs: list[Pair], names: list[str]) -> tuple[list[Pair], list[Pair], list[str]]:
    """Pairs that are named, pairs that are not, and names (not patterns) that no pair has."""
    plain = {fold(name) for name in names}
    patterns = [fold(name) for name in names if "*" in name or "?" in name]
    named: list[Pair] = []
    others: list[Pair] = []
    for pair in pairs:
        name = fold(pair.name)
        is_named = name in plain or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        (named if is_named else others).append(pair)
    found = {fold(pair.name) for pair in named}
    return named, others, [name for name in names if fold(name) not in found and fold(name) not in patterns]


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
