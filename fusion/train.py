"""Train a model: `python -m fusion.train experiment=NAME key=value ...`; `-m` and comma lists sweep."""

from omegaconf import DictConfig

from fusion.job.cli import door
from fusion.job.config import check_early
from fusion.job.runs import resume_overrides


@door("train", prepare=resume_overrides)
def main(cfg: DictConfig) -> float | None:
    """Command `python -m fusion.train`; returns the monitored metric, for sweepers."""
    check_early(cfg)
    from fusion.metrics import check_metrics  # late: these import PyTorch, and then Lightning

    check_metrics(cfg.evaluation.metrics, cfg.evaluation.convention)
    from fusion.training.fit import train

    return train(cfg)


if __name__ == "__main__":
    main()
