"""Fuse and score a data set: `python -m fusion.evaluate ckpt_path=RUN_FOLDER data=NAME paths.data_dir=DIR`."""

from omegaconf import DictConfig

from fusion.job.cli import door, free_controls
from fusion.scoring.evaluation import evaluate


@door("evaluate", prepare=free_controls)
def main(cfg: DictConfig) -> float | None:
    """Command `python -m fusion.evaluate`; returns the mean of the monitored metric, for sweepers."""
    return evaluate(cfg)


if __name__ == "__main__":
    main()
