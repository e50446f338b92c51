"""A guard against gradients that are not finite."""

import logging
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from fusion.errors import FusionError

log = logging.getLogger(__name__)


class FiniteGuard(Callback):
    """Skips optimiser steps whose gradients are not finite, and stops after too many of them in a row.

    Gradients are looked at after the ranks have averaged them, so that all ranks decide alike. Costs one wait for the
    device per step. With fp16 the gradient scaler already skips such steps, and only the loss is watched.

    Args:
        patience: skipped steps in a row before the run is stopped; 0 stops at the first.
    """

    def __init__(self, patience: int = 5) -> None:
        self.patience = patience
        self.skipped = 0  # in a row
        self._batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch = batch

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        norms = torch._foreach_norm([p.grad for p in parameters])
        if torch.stack([norm.float() for norm in norms]).sum().isfinite().item():
            self.skipped = 0
            return
        for parameter in parameters:
            parameter.grad = None  # the optimiser leaves parameters without a gradient as they are
        self._count(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self._batch, batch = None, self._batch
        if getattr(trainer.precision_plugin, "scaler", None) is None or outputs is None:
            return
        if outputs["loss"].isfinite().item():
            self.skipped = 0
            return
        self._batch = batch
        self._count(trainer)

    def _count(self, trainer: Trainer) -> None:
        self.skipped += 1
        names = ", ".join(list((self._batch or {}).get("name", []))[:8])
        task = (self._batch or {}).get("task", "?")
        what = f"loss or gradients are not finite at step {trainer.global_step} (task {task}, pairs {names})"
        if self.skipped > self.patience:
            raise FusionError(f"{what}, {self.skipped} time(s) in a row: look at these pairs, or lower optimizer.lr")
        log.warning("%s: step skipped (%d of %d)", what, self.skipped, self.patience)
