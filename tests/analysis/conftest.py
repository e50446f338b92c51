"""A tiny TC-MoA with random routers, generated image pairs in the published layouts, and ways to run the doors."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch.nn.functional import interpolate

import fusion
from fusion.data.files.image import write_image
from fusion.models.base import FusionModel

SMALL = ["model.weights=null", "model.backbone.weights=null", "model.backbone.embed_dim=48", "model.backbone.depth=2"]
SMALL += ["model.backbone.decoder_embed_dim=48", "model.backbone.decoder_depth=2"]


class Result(NamedTuple):
    """What a door left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def overrides() -> list[str]:
    """Model overrides of a TC-MoA that runs in a moment."""
    return ["model=tcmoa_tiny", *SMALL]


@pytest.fixture
def model() -> FusionModel:
    """The tiny model with routers and experts that tell tokens apart."""
    torch.manual_seed(0)
    built = fusion.load_model("tcmoa_tiny", overrides=SMALL)
    for name, parameter in built.named_parameters():
        if "w_gate" in name or "experts" in name:
            torch.nn.init.normal_(parameter)
    return built


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Folders a and b with three smooth pairs of different sizes."""
    generator = torch.Generator().manual_seed(0)
    for side in ("a", "b"):
        for index, size in enumerate([(112, 112), (130, 224), (90, 100)]):
            small = torch.rand(1, 3, 5, 5, generator=generator)
            picture = interpolate(small, size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
            write_image(tmp_path / "images" / side / f"scene_{index}.png", picture)
    return tmp_path / "images"


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a door in this process, as `python -m fusion.<name>` would."""

    def run(name: str, *arguments: str) -> Result:
        main = importlib.import_module(f"fusion.{name}").main
        monkeypatch.setattr(sys, "argv", [f"fusion/{name}.py", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run
