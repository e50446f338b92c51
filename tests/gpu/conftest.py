"""Everything a GPU must do as the CPU does. `make test-gpu`; `FUSION_TEST_DEVICE=cpu` runs the same tests without one.

Tests that take `device` need a GPU. Those marked `everywhere` run on the CPU too, as a part of `make test`.
"""

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fusion.data.files.image import write_image

GPU = os.environ.get("FUSION_TEST_DEVICE", "cuda")
PLUGIN = Path(__file__).parents[1] / "infra" / "plugin"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" not in metafunc.fixturenames:
        return
    devices = [pytest.param(GPU, marks=pytest.mark.gpu, id="gpu")]
    if metafunc.definition.get_closest_marker("everywhere"):
        devices.insert(0, pytest.param("cpu", id="cpu"))
    metafunc.parametrize("device", devices)


@pytest.fixture(autouse=True)
def as_exact_as_the_cpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Float32 on the GPU without TF32, which has 10 bits of mantissa; and no test on a GPU that is not there."""
    device = request.node.callspec.params.get("device", "cpu") if hasattr(request.node, "callspec") else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; FUSION_TEST_DEVICE=cpu runs this test without one")
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch._dynamo.reset()


@pytest.fixture
def trainer_options() -> Callable[[str], list[str]]:
    """`trainer_options(device)`: the trainer as users choose it for a GPU; on a CPU the same settings without the GPU."""

    def choose(device: str) -> list[str]:
        return ["trainer=gpu"] if device.startswith("cuda") else ["trainer=gpu", "trainer.accelerator=cpu"]

    return choose


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders train/a, train/b, val/a and val/b with smooth pictures of 80x96."""
    root = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 4), ("val", 2)):
        for side in ("a", "b"):
            for index in range(count):
                small = torch.rand(1, 3, 6, 6, generator=generator)
                picture = F.interpolate(small, (80, 96), mode="bicubic", align_corners=False)[0]
                write_image(root / part / side / f"{index}.png", picture.clamp(0, 1))
    return root


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run a command in this process, as `python -m fusion.<name>` would: its status, and what it printed."""
    environment, filters = dict(os.environ), list(warnings.filters)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.setenv("FUSION_TRUSTED_PACKAGES", "tinyfusion")

    def run(name: str, *arguments: str) -> tuple[int, str]:
        main: Callable[[Any], Any] = importlib.import_module(f"fusion.{name}").main
        monkeypatch.setattr(sys, "argv", [f"fusion/{name}.py", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(None)
        return int(ended.value.code or 0), "".join(capfd.readouterr())

    yield run
    os.environ.clear()
    os.environ.update(environment)
    warnings.filters[:] = filters
    root.handlers[:], root.level = handlers, level
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
