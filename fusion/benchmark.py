"""Parameters, operations, time and memory of a model: `python -m fusion.benchmark model=NAME size=[480,640]`."""

from typing import Any

from omegaconf import DictConfig

from fusion.analysis.benchmark import benchmark
from fusion.job.cli import door


@door("benchmark")
def main(cfg: DictConfig) -> dict[str, Any]:
    """Command `python -m fusion.benchmark`."""
    return benchmark(cfg)


if __name__ == "__main__":
    main()
