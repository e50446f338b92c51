"""A checkpoint to resume from, always the newest."""

import os
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`, replaced atomically at the end of every epoch, every n steps and at the end of training.

    On an exception (or an interruption) the state goes to `exception.ckpt`, so that `last.ckpt` stays sound; not with
    several processes, which could wait for one another forever.

    Args:
        dirpath: folder of the checkpoints.
        every_n_train_steps: also save after so many optimiser steps; 0: only at the end of epochs.
        save_on_exception: keep the state of a run that breaks.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int = 0, save_on_exception: bool = True) -> None:
        super().__init__()
        self.dirpath = Path(dirpath)
        self.every_n_train_steps = every_n_train_steps
        self.save_on_exception = save_on_exception
        self._saved_step = -1

    def _save(self, trainer: Trainer, name: str) -> None:
        if not trainer.fast_dev_run and not trainer.sanity_checking:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.dirpath / name, weights_only=False)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if self.every_n_train_steps and step % self.every_n_train_steps == 0 and step != self._saved_step:
            self._saved_step = step
            self._save(trainer, "last.ckpt")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, "last.ckpt")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, "last.ckpt")
        if trainer.is_global_zero and (self.dirpath / "exception.ckpt").is_file():
            os.remove(self.dirpath / "exception.ckpt")  # of a part of the run that was overtaken

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self.save_on_exception and trainer.world_size == 1 and trainer.training and trainer.global_step:
            self._save(trainer, "exception.ckpt")
