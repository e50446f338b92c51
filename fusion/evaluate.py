"""Fuse and score a data set: `python -m fusion.evaluate ckpt_path=RUN_FOLDER data=NAME paths.data_dir=DIR`."""

from omegaconf import DictConfig

from fusion.job.cli import command, free_controls
from fusion.job.config import check_early


@command("evaluate", prepare=free_controls)
def main(cfg: DictConfig) -> float | None:
    """Command `python -m fusion.evaluate`; returns the mean of the monitored metric, for sweepers."""
    for part in ("data", "trainer", "downstream"):
        check_early(cfg.get(part), part)
    if cfg.ckpt_path is None:  # a checkpoint may bring another model
        check_early(cfg.model, "model")
    from fusion.scoring.evaluation import evaluate  # late: it imports PyTorch and Lightning

    return evaluate(cfg)


if __name__ == "__main__":
    main()
