"""The folders in which Weights & Biases prepares files, inside the run folder instead of temporary and home folders."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

DATA_DIR = "WANDB_DATA_DIR"
_given: list[str] = []  # what this module has set it to


def stage_in(run_folder: Path) -> None:
    """Move W&B's staging folders into a run folder, where a later run or the end of the process removes them.

    W&B makes them in the temporary folder when it is imported, which timm does, and has no setting for them: every process
    that is killed would leave two folders there. In a run folder the next part of the run takes over what was left.

    The pictures of tables, which an offline run needs when it is uploaded, go there too instead of the home folder, unless
    `WANDB_DATA_DIR` names another place.

    Args:
        run_folder: of this process's run.
    """
    if os.environ.get(DATA_DIR) in (None, *_given):
        _given[:] = [str((run_folder / "wandb" / "data").absolute())]
        os.environ[DATA_DIR] = _given[0]
    private = sys.modules.get("wandb.sdk.data_types._private")
    artifact = getattr(sys.modules.get("wandb"), "Artifact", None)
    stagings: dict[str, Any] = {
        "media": getattr(private, "MEDIA_TMP", None),
        "artifacts": getattr(artifact, "_TMP_DIR", None),
    }
    for name, staging in stagings.items():
        if not hasattr(staging, "cleanup"):  # not imported, or another version of W&B
            continue
        staging.cleanup()
        folder = run_folder / f".wandb_{name}_{os.environ.get('RANK', '0')}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        staging.name = str(folder.absolute())  # what W&B writes to from now on, and removes when the process ends
