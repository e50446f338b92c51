"""Parameters, operations, time and memory of a model: `python -m fusion.benchmark model=NAME size=[480,640]`."""

from typing import Any

from omegaconf import DictConfig

from fusion.job.cli import command
from fusion.job.config import check_early


@command("benchmark")
def main(cfg: DictConfig) -> dict[str, Any]:
    """Command `python -m fusion.benchmark`."""
    check_early(cfg.model, "model")
    from fusion.analysis.benchmark import benchmark  # late: it imports PyTorch and Lightning

    return benchmark(cfg)


if __name__ == "__main__":
    main()
