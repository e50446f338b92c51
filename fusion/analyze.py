"""Figures and tables of what a model learned, or a sweep: `python -m fusion.analyze kind=KIND ckpt_path=RUN_FOLDER`."""

from omegaconf import DictConfig

from fusion.job.cli import command
from fusion.job.config import check_early


@command("analyze")
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.analyze`."""
    check_early(cfg.data, "data")
    from fusion.analysis.kinds import analyze  # late: it imports PyTorch and Lightning

    analyze(cfg)


if __name__ == "__main__":
    main()
