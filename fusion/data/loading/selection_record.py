"""Record of the pairs that a run drew at random, written beside its results."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from fusion.data.dataset import PairDataset
from fusion.errors import DataError
from fusion.files import write_text


def write_selections(datasets: Mapping[str, PairDataset], folder: Path, part: str) -> list[Path]:
    """Write the names of every randomly drawn selection to `folder/<part>.<key>.txt`.

    The files can be given back as `include=FILE`, to use the same pairs without the draw.

    Args:
        datasets: data sets by key.
        folder: made if anything is written.
        part: "train", "val" or "test".

    Returns:
        The files written.

    Raises:
        DataError: the folder cannot be written.
    """
    written = []
    for key, dataset in _drawn(datasets):
        path = folder / f"{part}.{key}.txt"
        draw = f"skip={dataset.skip} limit={dataset.limit} shuffle_seed={dataset.shuffle_seed}"
        lines = [f"# {dataset.name} {dataset.split}: {len(dataset)} pairs drawn with {draw}"]
        lines += [pair.name for pair in dataset.pairs]
        try:
            write_text(path, "\n".join(lines) + "\n")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from error
        written.append(path)
    return written


def _drawn(datasets: Mapping[str, PairDataset], prefix: str = "") -> Iterator[tuple[str, PairDataset]]:
    for key, dataset in datasets.items():
        if dataset.shuffle_seed is not None and (dataset.skip or dataset.limit is not None):
            yield prefix + key, dataset
        inner = {name: getattr(dataset, name, None) for name in ("source", "other")}
        given = {name: value for name, value in inner.items() if isinstance(value, PairDataset)}
        yield from _drawn(given, f"{prefix}{key}.")
