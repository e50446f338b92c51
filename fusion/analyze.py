"""Figures and tables of what a model learned, or a sweep: `python -m fusion.analyze kind=KIND ckpt_path=RUN_FOLDER`."""

from omegaconf import DictConfig

from fusion.analysis.kinds import analyze
from fusion.job.cli import door


@door("analyze")
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.analyze`."""
    analyze(cfg)


if __name__ == "__main__":
    main()
