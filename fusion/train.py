"""Train a model: `python -m fusion.train experiment=NAME key=value ...`; `-m` and comma lists sweep."""

from omegaconf import DictConfig

from fusion.analysis.sweep import show_sweep
from fusion.job.cli import door
from fusion.job.runs import resume_overrides
from fusion.training.fit import check_job, train


@door("train", prepare=resume_overrides, check=check_job, after_sweep=show_sweep)
def main(cfg: DictConfig) -> float | None:
    """Command `python -m fusion.train`; returns the monitored metric, for sweepers."""
    return train(cfg)


if __name__ == "__main__":
    main()
