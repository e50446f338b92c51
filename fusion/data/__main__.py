"""Look at data: `python -m fusion.data action=verify|describe|prepare data=NAME paths.data_dir=...`."""

from omegaconf import DictConfig

from fusion.cli import door
from fusion.config import check, instantiate
from fusion.data.datamodule import FusionDataModule
from fusion.data.verify import contact_sheet, verify
from fusion.errors import ConfigError, DataError

ACTIONS = ("verify", "describe", "prepare")


@door("data")
def main(cfg: DictConfig) -> None:
    """Door of `python -m fusion.data`."""
    config = check(cfg)
    if config["action"] not in ACTIONS:
        raise ConfigError(f"action={config['action']}: expected one of {', '.join(ACTIONS)}")
    data: FusionDataModule = instantiate(config["data"])
    data.prepare_data()
    if config["action"] == "describe":
        _print(data.describe())
    if config["action"] == "verify":
        _verify(data, config["threads"])
    if config["contact_sheet"]:
        sheet = contact_sheet([d for part in data.parts.values() for d in part.values()], config["contact_sheet"])
        print(f"contact sheet: {sheet}")


def _verify(data: FusionDataModule, threads: int) -> None:
    rows, problems, doubts = [], [], []
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
