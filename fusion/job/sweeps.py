"""The folder of a sweep keeps its record: what a later sweep in it writes stands beside, not over."""

import os
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

RECORD = "multirun.yaml"


class KeepRecord(Callback):
    """Hydra callback: renames the record of a sweep that was here before to `multirun.1.yaml`, `multirun.2.yaml`, ..."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before Hydra writes its own."""
        file = Path(str(config.hydra.sweep.dir)) / RECORD
        if not file.is_file():
            return
        number = 1
        while (target := file.with_name(f"multirun.{number}.yaml")).exists():
            number += 1
        os.replace(file, target)
