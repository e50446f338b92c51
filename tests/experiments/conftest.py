"""Composes configurations as the doors do, and reads what experiments/tcmoa says."""

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from fusion.job.aliases import full_overrides
from fusion.job.config import check, config_dir

ROOT = Path(__file__).parents[2]
README = ROOT / "experiments" / "tcmoa" / "README.md"


@pytest.fixture(scope="module")
def compose() -> Iterator[Callable[..., DictConfig]]:
    """`compose(root, *overrides)`: the configuration of a door, to read; `return_hydra_config=True` adds Hydra's."""

    @functools.cache
    def composed(root: str, *overrides: str, **options: bool) -> DictConfig:
        cfg = hydra.compose(root, full_overrides(overrides), **options)
        OmegaConf.set_readonly(cfg, True)  # it is shared
        return cfg

    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield composed


@pytest.fixture(scope="module")
def tiny(compose: Callable[..., DictConfig]) -> Callable[..., dict[str, Any]]:
    """`tiny(*overrides)`: checked model node of `model=tcmoa_tiny` with random weights."""
    weightless = ("model=tcmoa_tiny", "model.weights=null", "model.backbone.weights=null")
    return lambda *overrides: check(compose("predict", *weightless, *overrides).model, "model")


@pytest.fixture(scope="session")
def readme_section() -> Callable[[str], str]:
    """`readme_section(heading)`: text of one section of experiments/tcmoa/README.md."""

    def section(heading: str) -> str:
        found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README.read_text(), re.S | re.M)
        assert found, f"no section '{heading}' in {README.name}"
        return found[1]

    return section
