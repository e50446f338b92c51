"""Fuse two files or two folders: `python -m fusion.predict model=NAME a=DIR b=DIR out=DIR task=vif`."""

from omegaconf import DictConfig

from fusion.job.cli import command, each_source, free_controls
from fusion.job.config import check_early, check_sources


def rewrite(arguments: list[str]) -> list[str]:
    """Lets `control.KEY=` give any control and `range=` mean both sources."""
    return each_source("a", "b")(free_controls(arguments))


@command("predict", prepare=rewrite)
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.predict`."""
    check_sources(cfg, "a", "b")
    if cfg.ckpt_path is None:  # a checkpoint may bring another model
        check_early(cfg.model, "model")
    from fusion.inference.folders import predict  # late: it imports PyTorch and Lightning

    predict(cfg)


if __name__ == "__main__":
    main()
