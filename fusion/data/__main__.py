"""Look at data and make it: `python -m fusion.data action=verify|describe|prepare|synthesize|label data=NAME`."""

from pathlib import Path
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

ACTIONS = ("verify", "describe", "prepare", "synthesize", "label")


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
    if config["action"] == "label":
        _label(data, config)
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
                    "grey a/b": f"{report.gray[0]}/{report.gray[1]}",
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
        raise DataError(f"{len(dict.fromkeys(problems))} pairs cannot be used, see above; mend or exclude them")
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} data sets are missing ({', '.join(missing)}), see above; the others were read"
        )


def _label(data: FusionDataModule, config: dict[str, Any]) -> None:
    from fusion.downstream.judges.labelling import write_labels

    part = config["part"]
    if not config.get("judge"):
        raise ConfigError(
            "action=label: no judge; give judge=coco (boxes) or judge=mfnet (maps) with judge.weights=FILE"
        )
    if not data.parts.get(part):
        known = ", ".join(name for name, sets in data.parts.items() if sets)
        raise ConfigError(f"part={part}: this data has none; expected one of {known}")
    if not config["out"]:
        raise ConfigError("out: not given; expected a folder to write the labels to.")
    count = write_labels(data.parts[part].values(), instantiate(config["judge"]), Path(config["out"]), config["score"])
    print(f"{count} label files are in {config['out']}: give it to the data set as label_dir")


_NOTHING = {"pairs": "missing"} | dict.fromkeys(("size", "grey a/b", "references", "labels", "unusable"), "-")


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
