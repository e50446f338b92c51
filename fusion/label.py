"""Labels by a released judge: `python -m fusion.label data=llvip judge=coco judge.weights=FILE out=DIR`."""

from pathlib import Path

from omegaconf import DictConfig

from fusion.downstream.judges.labelling import write_labels
from fusion.errors import ConfigError
from fusion.job.cli import door
from fusion.job.config import check, instantiate


@door("label")
def main(cfg: DictConfig) -> None:
    """Entry point of `python -m fusion.label`."""
    config = check(cfg)
    data = instantiate(config["data"])
    part = config["part"]
    if not data.parts.get(part):
        known = ", ".join(name for name, sets in data.parts.items() if sets)
        raise ConfigError(f"part={part}: this data has none; expected one of {known}")
    judge = instantiate(config["judge"])
    count = write_labels(data.parts[part].values(), judge, Path(config["out"]), config["score"])
    print(f"{count} label files are in {config['out']}: give the data set label_dir={config['out']}")


if __name__ == "__main__":
    main()
