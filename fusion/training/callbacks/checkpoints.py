"""Checkpoints to resume from and to keep: the newest, the best, and what an interruption leaves."""

import logging
import os
import signal
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fusion.errors import FusionError
from fusion.training.fsdp import sharded
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


def _is_last_epoch(trainer: Trainer) -> bool:
    """Whether the training ends with the epoch that has been processed."""
    loop, (steps, epochs) = trainer.fit_loop, (trainer.max_steps, trainer.max_epochs)
    current: Any = loop.epoch_progress.current
    by_count = 0 <= steps <= trainer.global_step or 0 <= (epochs or -1) <= current.processed
    return by_count or (trainer.should_stop and loop._can_stop_early)


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`, replaced atomically at the end of every epoch, every n steps and at the end of training.

    Ctrl-C, SIGTERM and SIGUSR1 (SLURM's warning of a pre-emption) stop the training at the end of the step, on all ranks
    at the same one, and leave `exception.ckpt` there, from which a resumed run equals an undisturbed one. So does an
    error, with one process. A training whose last step is done ends as if nobody had asked.

    Args:
        dirpath: folder of the checkpoints.
        every_n_train_steps: also save after so many optimiser steps; 0: only at the end of epochs.
        save_on_exception: keep the state of a run that breaks.

    Attributes:
        metrics: every logged number of the last whole epoch, also of one before a resume.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int = 0, save_on_exception: bool = True) -> None:
        super().__init__()
        self.dirpath = Path(dirpath)
        self.every_n_train_steps = every_n_train_steps
        self.save_on_exception = save_on_exception
        self._saved_step = -1
        self.metrics: dict[str, float] = {}
        self._signals = StopSignals()
        self._stopping = False
        self._ended = False

    def _save(self, trainer: Trainer, name: str) -> None:
        if not trainer.fast_dev_run and not trainer.sanity_checking:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.dirpath / name, weights_only=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = False
        self._signals.listen(forced=trainer.world_size == 1)
        if trainer.received_sigterm:  # it came during the preparations, and Lightning noted it
            trainer._signal_connector.received_sigterm = False
            self._signals.told = int(signal.SIGTERM)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_check_val_fx(trainer.fit_loop._data_fetcher) or loop._is_training_done:  # type: ignore[arg-type]
            return  # a run resumed from here would skip the validation or the end of the epoch, which saves
        if loop._should_accumulate():
            return  # checkpoints do not hold the gradients of a part of a step
        step = trainer.global_step
        if self.every_n_train_steps and step // self.every_n_train_steps > max(self._saved_step, 0) // (
            self.every_n_train_steps
        ):
            self._log_step(trainer)
            self._save(trainer, "last.ckpt")
            self._saved_step = step
        self.stop_if_told(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log_epoch(trainer)
        self.metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self._save(trainer, "last.ckpt")
        self._saved_step = trainer.global_step
        if not _is_last_epoch(trainer):
            self.stop_if_told(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = True
        self._signals.ignore()
        self._save(trainer, "last.ckpt")
        if trainer.is_global_zero and (self.dirpath / "exception.ckpt").is_file():
            os.remove(self.dirpath / "exception.ckpt")  # of a part of the run that was overtaken

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a training that was killed between its last epoch and its end: Lightning skips it when it is resumed."""
        progress: Any = trainer.fit_loop.epoch_progress
        if self._ended or sharded(trainer) or progress.total.completed == progress.total.processed:
            return
        progress.total.completed = progress.total.processed
        progress.current.completed = progress.current.processed
        trainer.fit_loop.on_run_end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._signals.ignore()
        if self._ended:  # last.ckpt has it all
            return
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

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics} if self.metrics else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics = {str(key): float(value) for key, value in dict(state_dict.get("metrics") or {}).items()}

    def stop_if_told(self, trainer: Trainer) -> None:
        """Raise if a signal has asked this rank, or another one, to stop.

        Raises:
            KeyboardInterrupt: SIGINT.
            SIGTERMException: SIGTERM, SIGUSR1.
        """
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
