"""Train a model: `python -m fusion.train experiment=NAME key=value ...`; `-m` and comma lists sweep."""

from pathlib import Path

from omegaconf import DictConfig

from fusion.job.cli import command
from fusion.job.config import check_early
from fusion.job.resuming import resume_overrides


def check_job(cfg: DictConfig) -> None:
    """Refuse a job of a sweep that cannot work."""
    check_early(cfg)
    from fusion.training.checks import check_job as check  # late: it imports PyTorch and Lightning

    check(cfg)


def show_sweep(folder: Path) -> None:
    """Show the results of a sweep."""
    from fusion.analysis.sweep import show_sweep as show

    show(folder)


@command("train", prepare=resume_overrides, check=check_job, after_sweep=show_sweep)
def main(cfg: DictConfig) -> float | None:
    """Command `python -m fusion.train`; returns the monitored metric, for sweepers."""
    check_early(cfg)
    from fusion.metrics import check_metrics  # late: these import PyTorch, and then Lightning

    check_metrics(cfg.evaluation.metrics, cfg.evaluation.convention)
    from fusion.training.fit import train

    return train(cfg)


if __name__ == "__main__":
    main()
