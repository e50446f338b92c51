"""Checkpoints to resume from and to keep: the newest, the best, and what an interruption leaves."""

import logging
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fusion.errors import FusionError
from fusion.training.signals import StopSignals

log = logging.getLogger(__name__)


class BestCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, whose memory of the best moves along with the run folder.

    A copied or moved run keeps its best checkpoint when it is resumed, until a better epoch comes. Paths in a checkpoint
    are never followed out of the run's own folder.
    """

    @property
    def state_key(self) -> str:
        """The base class's, so that runs from before are resumed."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(str(self.dirpath))

        def here(path: Any) -> str:
            moved = folder / Path(str(path)).name
            return str(moved) if path and moved.is_file() else ""

        kept = {here(path): score for path, score in dict(state_dict.get("best_k_models") or {}).items()}
        kept.pop("", None)
        moved = {
            key: here(state_dict.get(key)) for key in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        if not moved["best_model_path"]:  # the file is gone: the next epoch is the best there is
            state_dict = {**state_dict, "best_model_score": None, "current_score": None, "kth_value": None}
            kept = {}
        if state_dict.get("kth_value") is None:
            state_dict["kth_value"] = self.kth_value
        super().load_state_dict({**state_dict, **moved, "best_k_models": kept, "dirpath": self.dirpath})


def _is_sound(trainer: Trainer, exception: BaseException) -> bool:
    """Whether weights and counters belong together; a batch that broke off is given back to the loader.

    Errors come before the optimiser changes anything, but an interruption may come while it does.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    step = loop.automatic_optimization.optim_progress.optimizer.step.current
    if isinstance(exception, KeyboardInterrupt) and step.ready != step.completed:
        return False
    loader = getattr(getattr(trainer, "datamodule", None), "_train_loader", None)
    if loop.batch_progress.current.ready > loop.batch_progress.current.processed and loader is not None:
        loader.batch_sampler.position -= 1
    return True


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`, replaced atomically at the end of every epoch, every n steps and at the end of training.

    Ctrl-C, SIGTERM and SIGUSR1 (SLURM's warning of a pre-emption) stop the training at the end of the step, on all ranks
    at the same one, and leave `exception.ckpt` there, from which a resumed run equals an undisturbed one. So does an
    error, with one process.

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
        self._signals = StopSignals()
        self._stopping = False

    def _save(self, trainer: Trainer, name: str) -> None:
        if not trainer.fast_dev_run and not trainer.sanity_checking:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.dirpath / name, weights_only=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signals.listen(forced=trainer.world_size == 1)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_check_val_fx(trainer.fit_loop._data_fetcher) or loop.batch_progress.is_last_batch:  # type: ignore[arg-type]
            return  # a run resumed from here would skip the validation: its end saves
        step = trainer.global_step
        if self.every_n_train_steps and step // self.every_n_train_steps > max(self._saved_step, 0) // (
            self.every_n_train_steps
        ):
            self._log_step(trainer)
            self._save(trainer, "last.ckpt")
            self._saved_step = step
        self._stop_if_told(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log_epoch(trainer)
        self._save(trainer, "last.ckpt")
        self._saved_step = trainer.global_step
        self._stop_if_told(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signals.ignore()
        self._save(trainer, "last.ckpt")
        if trainer.is_global_zero and (self.dirpath / "exception.ckpt").is_file():
            os.remove(self.dirpath / "exception.ckpt")  # of a part of the run that was overtaken

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._signals.ignore()
        sound = self._stopping or (trainer.world_size == 1 and _is_sound(trainer, exception))
        if self.save_on_exception and sound and trainer.training and trainer.global_step:
            try:
                self._log_step(trainer)
                self._save(trainer, "exception.ckpt")
            except FusionError as error:  # say what happened first
                log.warning("%s", error)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["saved_at_step"] = trainer.global_step

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved_step = int(checkpoint.get("saved_at_step", -1))

    def _stop_if_told(self, trainer: Trainer) -> None:
        told = self._signals.told
        if trainer.world_size > 1 and dist.is_initialized():  # all ranks stop at one step
            shared = torch.tensor(int(told or 0), device=trainer.strategy.root_device)
            dist.all_reduce(shared, op=dist.ReduceOp.MAX)
            told = int(shared.item()) or None
        if told is None:
            return
        self._stopping = True
        raise KeyboardInterrupt if told == StopSignals.INTERRUPT else SIGTERMException

    @staticmethod
    def _log_step(trainer: Trainer) -> None:
        """Lightning logs a step after its checkpoint: a killed run would lose the row."""
        if trainer.loggers and isinstance(trainer._logger_connector._first_loop_iter, bool):
            trainer._logger_connector.update_train_step_metrics()

    @staticmethod
    def _log_epoch(trainer: Trainer) -> None:
        if not trainer.loggers:
            return
        trainer.fit_loop.epoch_loop._batches_that_stepped -= 1  # as Lightning does right after
        trainer._logger_connector.log_metrics(trainer._logger_connector.metrics["log"])
        trainer.fit_loop.epoch_loop._batches_that_stepped += 1
