"""A guard against gradients that are not finite."""

import logging
from collections import deque
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from fusion.errors import FusionError
from fusion.training.fsdp import sharded, total_norm

log = logging.getLogger(__name__)

LAG = 8
"""Steps that a flag of a GPU may be late before it is waited for."""


class FiniteGuard(Callback):
    """Skips optimiser steps whose gradients are not finite, and stops after too many of them in a row.

    Gradients are looked at after the ranks have averaged them, so that all ranks decide alike. With fp16 the gradient scaler
    already skips such steps, and only the loss is watched.

    A GPU is not waited for: a fused optimiser leaves the step out by itself when it finds the flag that is set here, and the flag
    is read when it has arrived, some steps later. Without a fused optimiser every step waits.

    Args:
        patience: skipped steps in a row before the run is stopped; 0 stops at the first.
    """

    def __init__(self, patience: int = 5) -> None:
        self.patience = patience
        self.skipped = 0  # in a row
        self._batch: Any = None
        self._flags: deque[tuple[Tensor, Any, str]] = deque()  # on their way from the device

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch = batch

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not parameters and not sharded(trainer):
            return
        finite = total_norm([p.grad for p in parameters if p.grad is not None], trainer).isfinite()
        if finite.is_cuda and optimizer.defaults.get("fused"):
            optimizer.found_inf = finite.logical_not().float()  # type: ignore[attr-defined]
            self._send(finite, self._what(trainer))
            return
        if finite.item():
            self.skipped = 0
            return
        for parameter in parameters:
            parameter.grad = None  # the optimiser leaves parameters without a gradient as they are
        self._count(self._what(trainer))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self._read()
        if getattr(trainer.precision_plugin, "scaler", None) is not None and outputs is not None:
            finite, what = outputs["loss"].isfinite(), self._what(trainer)
            if finite.is_cuda:
                self._send(finite, what)
            else:
                self._judge(bool(finite), what)
        self._batch = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read(wait=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._flags.clear()

    # Flags that need not be waited for --------------------------------------------------------------------------------

    def _send(self, finite: Tensor, what: str) -> None:
        """Start copying a flag to the host."""
        host = torch.empty((), dtype=torch.bool, pin_memory=True)
        host.copy_(finite, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._flags.append((host, arrived, what))

    def _read(self, wait: bool = False) -> None:
        """Judge the flags that have arrived, in their order; all of them where `wait` says so."""
        while self._flags and (wait or len(self._flags) > LAG or self._flags[0][1].query()):
            host, arrived, what = self._flags.popleft()
            arrived.synchronize()
            self._judge(bool(host), what)

    def _judge(self, finite: bool, what: str) -> None:
        if finite:
            self.skipped = 0
        else:
            self._count(what)

    def _what(self, trainer: Trainer) -> str:
        names = ", ".join(list((self._batch or {}).get("name", []))[:8])
        task = (self._batch or {}).get("task", "?")
        return f"loss or gradients are not finite at step {trainer.global_step} (task {task}, pairs {names})"

    def _count(self, what: str) -> None:
        self.skipped += 1
        if self.skipped > self.patience:
            raise FusionError(f"{what}, {self.skipped} time(s) in a row: look at these pairs, or lower optimizer.lr")
        log.warning("%s: step skipped (%d of %d)", what, self.skipped, self.patience)
