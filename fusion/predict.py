"""Fuse two files or two folders: `python -m fusion.predict model=NAME a=DIR b=DIR out=DIR task=vif`."""

from omegaconf import DictConfig

from fusion.inference.folders import predict
from fusion.job.cli import door, free_controls


@door("predict", prepare=free_controls)
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.predict`."""
    predict(cfg)


if __name__ == "__main__":
    main()
