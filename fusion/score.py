"""Score fused images: `python -m fusion.score a=DIR b=DIR fused=DIR suite=NAME out=scores.csv`."""

import sys

from omegaconf import DictConfig, OmegaConf

from fusion.job.cli import command, each_source
from fusion.job.config import check_sources


def rewrite(arguments: list[str]) -> list[str]:
    """Lets `suite=NAME` choose the group `metrics@suite`, and `fused.METHOD=DIR` stand without a plus."""
    arguments = each_source("a", "b", "fused")(arguments)
    spelled = {"suite=": "metrics@suite=", "fused.": "++fused.", "+fused.": "++fused."}
    return [next((new + a[len(old) :] for old, new in spelled.items() if a.startswith(old)), a) for a in arguments]


@command("score", prepare=rewrite)
def main(cfg: DictConfig) -> float | None:
    """Command `python -m fusion.score`; returns the first method's mean of the first metric, for sweepers."""
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(config, dict)
    check_sources(cfg, "a", "b")
    from fusion.scoring import score_folders  # late: it imports PyTorch

    board = score_folders({str(key): value for key, value in config.items()})
    return next(iter(board.means[board.methods[0]].values()))


if __name__ == "__main__":
    sys.exit(main())
