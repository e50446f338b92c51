"""Pictures and reference values of the original toolboxes."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parents[1] / "data" / "metrics"


@dataclass(frozen=True)
class Golden:
    """One value that an original toolbox gave for one triple; `value` is None where it crashed or gave NaN."""

    picture: str
    metric: str
    convention: str
    toolbox: str
    value: float | None
    status: str


def read_triple(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b, fused = (np.asarray(Image.open(next(folder.glob(f"{stem}.*")))) for stem in ("a", "b", "fused"))
    return a, b, fused


@pytest.fixture(scope="session")
def golden() -> list[Golden]:
    with (HERE / "golden.csv").open(newline="") as file:
        return [
            Golden(**{**row, "value": float(row["value"]) if row["value"] else None}) for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="session")
def pictures() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return {folder.name: read_triple(folder) for folder in sorted((HERE / "pictures").iterdir())}


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder with `golden/` (toolbox values of real photographs, which this repository may not hold)."""
    folder = os.environ.get("FUSION_REFERENCE_DIR")
    if not folder:
        pytest.skip("set FUSION_REFERENCE_DIR to the folder that holds golden/ to run on real photographs")
    return Path(folder)
