"""A miniature data set, a model from outside the package, and ways to run the doors as users do."""

import importlib
import importlib.util
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import DictConfig

from fusion.data.files.image import write_image

PLUGIN = Path(__file__).parent / "plugin"
ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    """What a door left behind."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with six training and five validation pairs of different sizes."""
    root = tmp_path_factory.mktemp("miniature")
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 6), ("val", 5)):
        for side in ("a", "b"):
            for index in range(count):
                small = torch.rand(1, 3, 6, 6, generator=generator)
                size = (36 + 4 * index, 44)
                picture = torch.nn.functional.interpolate(small, size, mode="bicubic", align_corners=False)[0]
                write_image(root / part / side / f"{index}.png", picture.clamp(0, 1))
    return root


@pytest.fixture
def tiny_overrides(miniature: Path) -> list[str]:
    """Arguments of a training that takes a second: two epochs of four steps."""
    return [
        "--config-dir", str(PLUGIN / "conf"), "model=tinyfusion", "data=miniature", f"paths.data_dir={miniature}",
        "logger=csv", "trainer=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=1",
        "trainer.enable_model_summary=false", "scheduler.warmup_epochs=0.5", "evaluation.metrics=[psnr]",
        "monitor.metric=val/psnr",
    ]  # fmt: skip


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model from outside importable in this process."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.setenv("FUSION_TRUSTED_PACKAGES", "tinyfusion")


@pytest.fixture
def undo_globals() -> Iterator[None]:
    """Put back what a door changes in its process."""
    environment, filters = dict(os.environ), list(warnings.filters)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    os.environ.clear()
    os.environ.update(environment)
    warnings.filters[:] = filters
    root.handlers[:], root.level = handlers, level
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def door(
    plugin: None, undo_globals: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run a door in this process, as `python -m fusion.<name>` would."""

    def run(name: str, *arguments: str) -> Result:
        main: Callable[[DictConfig | None], None] = importlib.import_module(f"fusion.{name}").main
        monkeypatch.setattr(sys, "argv", [f"fusion/{name}.py", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(None)
        out, err = capfd.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def offline() -> Callable[[Path], Any]:
    """Read the offline W&B run of a run folder."""
    spec = importlib.util.spec_from_file_location("wandb_file", ROOT / "experiments" / "lab" / "wandb_file.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["wandb_file"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a door in a process of its own."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(PLUGIN), str(ROOT)])
        environment = dict(os.environ, PYTHONPATH=path, FUSION_TRUSTED_PACKAGES="tinyfusion", OMP_NUM_THREADS="1")
        command = [sys.executable, "-m", f"fusion.{name}", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run
