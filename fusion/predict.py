"""Fuse files, folders, stacks or videos: `python -m fusion.predict model=NAME a=DIR b=DIR out=DIR task=vif`."""

from omegaconf import DictConfig

from fusion.data.files.formats import is_video
from fusion.job.cli import command, each_source, free_controls
from fusion.job.config import check_early, check_sources


def rewrite(arguments: list[str]) -> list[str]:
    """Lets `control.KEY=` give any control and `range=` mean both sources."""
    return each_source("a", "b")(free_controls(arguments))


@command("predict", prepare=rewrite)
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.predict`."""
    if cfg.sources is None:
        check_sources(cfg, "a", "b")
    if cfg.ckpt_path is None:  # a checkpoint may bring another model
        check_early(cfg.model, "model")
    # Late: these import PyTorch and Lightning.
    if cfg.sources is not None:
        from fusion.inference.many import predict
    elif any(is_video(str(cfg[key])) for key in ("a", "b")):
        from fusion.inference.video import predict
    else:
        from fusion.inference.folders import predict
    predict(cfg)


if __name__ == "__main__":
    main()
