"""The GPU table: what is measured stays when it is cut short; released code runs with today's libraries."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"
RELEASED = """
import numpy as np
from timm.models.layers import trunc_normal_
from torch import nn

def mae_vit_large_patch16(config):
    network = nn.Module()
    network.blocks_MoA, network.frozen = nn.Linear(2, 2), nn.Linear(2, 2)
    network.numbers = np.arange(3, dtype=np.float)
    return network
"""


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module; what it puts into `sys.path`, `sys.modules` and NumPy is taken back."""
    modules = dict(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("gpu")
    for name in set(sys.modules) - set(modules):
        if (
            name.split(".")[0] in ("gpu", "gpu_released", "gpu_work", "gpu_clock", "model")
            or name == "timm.models.layers"
        ):
            del sys.modules[name]
    if "float" in vars(np):
        del np.float  # type: ignore[attr-defined]


def test_rows_are_written_after_every_block(table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def first() -> Iterator[object]:
        yield table.Row("first", "fp32", 1.5)

    def failing() -> Iterator[object]:
        yield table.Row("second", "fp32", 2.5)
        raise RuntimeError("out of memory")

    def stopped() -> Iterator[object]:
        raise KeyboardInterrupt
        yield

    out = tmp_path / "gpu.json"
    monkeypatch.setattr(table, "sections", lambda *_: {"first": first, "failing": failing, "stopped": stopped})
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--out", str(out)])
    with pytest.raises(KeyboardInterrupt):
        table.main()
    rows = json.loads(out.read_text())["rows"]
    assert [(row["work"], row["ms"]) for row in rows] == [("first", 1.5), ("second", 2.5), ("failing", None)]
    assert "out of memory" in rows[-1]["note"]


def test_released_code_of_its_time_is_built(table: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").touch()
    (tmp_path / "model" / "ViT_MAE.py").write_text(RELEASED)
    before = list(sys.path)
    try:
        network = table.released.tcmoa(tmp_path)
    finally:
        sys.path[:] = before
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {
        "blocks_MoA.weight",
        "blocks_MoA.bias",
    }
