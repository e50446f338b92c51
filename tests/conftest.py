"""Settings of all tests: few threads, nothing online; and what several areas share."""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate

from fusion.data.files.image import write_image

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def m3fd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder with a miniature M3FD: 10 scenes of 64x96 with warm people and cars in boxes."""
    folder = tmp_path_factory.mktemp("data")
    generator = torch.Generator().manual_seed(0)
    (folder / "M3FD" / "Annotation").mkdir(parents=True)
    for index in range(10):
        visible = interpolate(torch.rand(1, 3, 5, 7, generator=generator), (64, 96), mode="bicubic")[0].clamp(0, 1) / 2
        infrared = visible.mean(0, keepdim=True).expand(3, -1, -1).clone()
        objects = ""
        for name, warmth in (("People", 0.95), ("Car", 0.75)):
            width, height = (int(torch.randint(12, 30, (), generator=generator)) for _ in range(2))
            x, y = (int(torch.randint(0, end, (), generator=generator)) for end in (96 - width, 64 - height))
            infrared[:, y : y + height, x : x + width] = warmth
            visible[:, y : y + height, x : x + width] = torch.rand(3, 1, 1, generator=generator) / 4
            corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width + 1, "ymax": y + height + 1}
            box = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
            objects += f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
        size = "<size><width>96</width><height>64</height><depth>3</depth></size>"
        write_image(folder / "M3FD" / "Vis" / f"{index:05d}.png", visible)
        write_image(folder / "M3FD" / "Ir" / f"{index:05d}.png", infrared)
        (folder / "M3FD" / "Annotation" / f"{index:05d}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return folder


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a door in this process, as `python -m fusion.<name>` would; status, and what it printed."""

    def run(name: str, *arguments: str) -> tuple[int, str]:
        main = importlib.import_module(f"fusion.{name}").main
        monkeypatch.setattr(sys, "argv", [f"fusion/{name}.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), "".join(capfd.readouterr())

    return run
