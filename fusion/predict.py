"""Fuse two files or two folders: `python -m fusion.predict model=NAME a=DIR b=DIR out=DIR task=vif`."""

from omegaconf import DictConfig

from fusion.inference.folders import predict
from fusion.job.cli import door, each_source, free_controls


def rewrite(arguments: list[str]) -> list[str]:
    """Lets `control.KEY=` give any control and `range=` mean both sources."""
    return each_source("a", "b")(free_controls(arguments))


@door("predict", prepare=rewrite)
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.predict`."""
    predict(cfg)


if __name__ == "__main__":
    main()
