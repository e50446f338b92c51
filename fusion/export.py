"""Write a model as one file for other programs: `python -m fusion.export model=NAME format=onnx|pt2 out=FILE`."""

from typing import Any

from omegaconf import DictConfig

from fusion.job.cli import command, free_controls
from fusion.job.config import check_early


@command("export", prepare=free_controls)
def main(cfg: DictConfig) -> dict[str, Any]:
    """Command `python -m fusion.export`."""
    if cfg.ckpt_path is None:  # a checkpoint may bring another model
        check_early(cfg.model, "model")
    from fusion.exporting.run import export  # late: it imports PyTorch and Lightning

    return export(cfg)


if __name__ == "__main__":
    main()
