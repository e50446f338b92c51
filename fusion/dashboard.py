"""The dashboard of a run, a sweep or a comparison in W&B: `python -m fusion.dashboard sweep=DIR entity=NAME`."""

from omegaconf import DictConfig

from fusion.job.cli import command
from fusion.reporting.build import sweep_argument
from fusion.reporting.dashboard import dashboard


@command("dashboard", prepare=sweep_argument)
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.dashboard`."""
    dashboard(cfg)


if __name__ == "__main__":
    main()
