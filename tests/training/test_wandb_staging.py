"""W&B prepares its files in the run folder, and moves along from run to run."""

import os
from pathlib import Path

import pytest
import wandb
from wandb.sdk.data_types._private import MEDIA_TMP

from fusion.training import wandb_staging
from fusion.training.wandb_staging import stage_in


def test_staging_folders_move_with_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    monkeypatch.setattr(wandb_staging, "_given", [])
    before = [MEDIA_TMP.name, wandb.Artifact._TMP_DIR.name]
    for name in ("first", "second"):
        stage_in(tmp_path / name)
        places = [Path(MEDIA_TMP.name), Path(wandb.Artifact._TMP_DIR.name)]
        assert all(place.is_dir() and place.parent == tmp_path / name for place in places)
        assert Path(os.environ["WANDB_DATA_DIR"]).is_relative_to(tmp_path / name)
        assert not any(Path(place).exists() for place in before)  # of the run before, or in the temporary folder
        before = [str(place) for place in places]
    monkeypatch.setenv("WANDB_DATA_DIR", "elsewhere")
    stage_in(tmp_path / "third")
    assert os.environ["WANDB_DATA_DIR"] == "elsewhere"
