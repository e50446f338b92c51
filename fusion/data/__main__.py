"""Look at data and make it: `python -m fusion.data action=verify|describe|prepare|synthesize data=NAME`."""

from typing import Any

from omegaconf import DictConfig

from fusion.data.dataset import PairDataset
from fusion.data.loading.datamodule import FusionDataModule
from fusion.data.sets import SyntheticPairs
from fusion.data.synthesis.export import export
from fusion.data.verify import contact_sheet, verify
from fusion.errors import ConfigError, DataError
from fusion.job.cli import door
from fusion.job.config import check, instantiate

ACTIONS = ("verify", "describe", "prepare", "synthesize")


@door("data")
def main(cfg: DictConfig) -> None:
    """Door of `python -m fusion.data`."""
    config = check(cfg)
    if config["action"] not in ACTIONS:
        raise ConfigError(f"action={config['action']}: expected one of {', '.join(ACTIONS)}")
    data: FusionDataModule = instantiate(config["data"])
    if config["action"] == "describe":
        _describe(data)
    else:
        data.prepare_data()
    if config["action"] == "prepare" and data.prepare is None:
        print("nothing to prepare: this data is used as it is published (action=describe says where to get it)")
    if config["action"] == "verify":
        _verify(data, config["threads"])
    if config["action"] == "synthesize":
        _synthesize(data, config)
    if config["contact_sheet"]:
        sheet = contact_sheet([d for part in data.parts.values() for d in part.values()], config["contact_sheet"])
        print(f"contact sheet: {sheet}")


def _describe(data: FusionDataModule) -> None:
    """What there is, and for what is not there where it comes from and where it goes."""
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


def _verify(data: FusionDataModule, threads: int) -> None:
    rows: list[dict[str, object]] = []
    problems: list[str] = []
    doubts: list[str] = []
    for part, datasets in data.parts.items():
        for dataset in datasets.values():
            report = verify(dataset, threads)
            rows.append(
                {
                    "part": part,
                    "set": dataset.name,
                    "task": dataset.task,
                    "split": dataset.split,
                    "pairs": report.pairs,
                    "size": report.size_range(),
                    "grey a/b": f"{report.gray[0]}/{report.gray[1]}",
                    "references": report.references,
                    "labels": report.labels(),
                    "unusable": len(report.problems),
                }
            )
            problems += report.problems
            doubts += report.doubts
    _print(rows)
    for line in dict.fromkeys(doubts):
        print(f"doubtful: {line}")
    for line in dict.fromkeys(problems):
        print(f"unusable: {line}")
    if problems:
        raise DataError(f"{len(dict.fromkeys(problems))} pairs cannot be used, see above; mend or exclude them")


def _synthesize(data: FusionDataModule, config: dict[str, Any]) -> None:
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


if __name__ == "__main__":
    main()
