"""One HTML file of a run, a sweep or several runs: `python -m fusion.report run=DIR|sweep=DIR|+runs.A=DIR +runs.B=DIR`."""

from omegaconf import DictConfig

from fusion.job.cli import command
from fusion.reporting.build import report, sweep_argument


@command("report", prepare=sweep_argument)
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.report`."""
    report(cfg)


if __name__ == "__main__":
    main()
