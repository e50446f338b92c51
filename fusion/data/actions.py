"""Actions of `python -m fusion.data` on a data module: describe, verify, synthesize."""

from typing import Any

from fusion.data.dataset import PairDataset
from fusion.data.loading.datamodule import FusionDataModule
from fusion.data.sets import SyntheticPairs
from fusion.data.synthesis.export import export
from fusion.data.verify import verify
from fusion.errors import ConfigError, DataError

ACTIONS = ("verify", "describe", "prepare", "synthesize", "label")


def describe(data: FusionDataModule) -> None:
    """Print the number of pairs of every data set, and for sets that are missing where to get and to put them."""
    rows: list[dict[str, object]] = []
    cards: dict[str, str] = {}
    for part, datasets in data.parts.items():
        for dataset in datasets.values():
            try:
                pairs: object = len(dataset)
            except DataError:
                pairs = "missing"
            published = dataset.published_count
            rows.append(
                {
                    "part": part,
                    "set": dataset.name,
                    "task": dataset.task,
                    "split": dataset.split,
                    "pairs": pairs,
                    "published": "-" if published is None else published,
                    "root": str(dataset.root),
                }
            )
            for card in _sources(dataset):
                cards.setdefault(card.name, f"{card.name}: {card.page or 'your own'}\n{card.layout}")
    _print(rows)
    for text in cards.values():
        print(f"\n{text}")


def _sources(dataset: PairDataset) -> list[PairDataset]:
    """The data set itself, or those it is made from."""
    inner = [getattr(dataset, key, None) for key in ("source", "other")]
    found = [source for source in inner if isinstance(source, PairDataset)]
    return [card for source in found for card in _sources(source)] or [dataset]


def verify_all(data: FusionDataModule, threads: int) -> None:
    """Read every image of every data set and print what was found.

    Raises:
        DataError: data sets are missing, or some pairs cannot be used.
    """
    rows: list[dict[str, object]] = []
    problems: list[str] = []
    doubts: list[str] = []
    missing: dict[str, str] = {}
    for part, datasets in data.parts.items():
        for dataset in datasets.values():
            try:
                report = verify(dataset, threads)
            except DataError as error:
                missing[f"{part} {dataset.name} {dataset.split}"] = str(error)
                rows.append(
                    {"part": part, "set": dataset.name, "task": dataset.task, "split": dataset.split, **_NOTHING}
                )
                continue
            rows.append(
                {
                    "part": part,
                    "set": dataset.name,
                    "task": dataset.task,
                    "split": dataset.split,
                    "pairs": report.pairs,
                    "size": report.size_range(),
                    "gray a/b": f"{report.gray[0]}/{report.gray[1]}",
                    "references": report.references,
                    "labels": report.labels(),
                    "alignment": report.alignment_text(),
                    "unusable": len(report.problems),
                }
            )
            problems += report.problems
            doubts += report.doubts
    if missing and len(missing) == len(rows):
        raise DataError(next(iter(missing.values())))
    _print(rows)
    for line in dict.fromkeys(missing.values()):
        print(f"missing: {line}")
    for line in dict.fromkeys(doubts):
        print(f"doubtful: {line}")
    for line in dict.fromkeys(problems):
        print(f"unusable: {line}")
    if problems:
        raise DataError(f"{len(dict.fromkeys(problems))} pairs cannot be used, see above; repair or exclude them")
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} data sets are missing ({', '.join(missing)}), see above; the others were read"
        )


_NOTHING = {"pairs": "missing"} | dict.fromkeys(
    ("size", "grey a/b", "references", "labels", "alignment", "unusable"), "-"
)


def synthesize(data: FusionDataModule, config: dict[str, Any]) -> None:
    """Write pairs that a data set makes.

    Args:
        data: data with a set of synthetic pairs for training.
        config: `out`, `count`, `ending` and `threads` of conf/data.yaml.

    Raises:
        ConfigError: data that make no pairs, or no folder to write to.
    """
    made = [dataset for dataset in data.parts["train"].values() if isinstance(dataset, SyntheticPairs)]
    if not made:
        raise ConfigError("action=synthesize: this data makes no pairs; take data=focus, data=exposure or data=gifnet.")
    if not config["out"]:
        raise ConfigError("out: not given; expected a folder to write the pairs to.")
    # Sets that show the same pairs the other way round (gifnet) have one place to be written to.
    dataset = next((one for one in made if one.main == "source"), made[0])
    count = export(
        dataset, config["out"], config["count"], data.train_transform(dataset), config["ending"], config["threads"]
    )
    print(f"{count} pairs made from {dataset.source.name} are in {config['out']}")


def _print(rows: list[dict[str, object]]) -> None:
    """Aligned columns, plain text: to be read, and to be cut up by other tools."""
    if not rows:
        print("no data sets")
        return
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
