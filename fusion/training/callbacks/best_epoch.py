"""The numbers of the best epoch, all of the same epoch."""

import math
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn


class BestEpoch(Callback):
    """Keeps every logged number of the epoch with the best monitored value; the first of equals, as checkpoints do.

    Args:
        monitor: name of the monitored metric.
        mode: "max" or "min".

    Attributes:
        best: `epoch` (from 0), `step` and `metrics` by name; empty before the first validation.
        improved: whether the latest validation was the best so far.
    """

    def __init__(self, monitor: str, mode: str = "max") -> None:
        self.monitor, self.mode = monitor, mode
        self.best: dict[str, Any] = {}
        self.improved = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        value = metrics.get(self.monitor, math.nan)
        before = self.best.get("metrics", {}).get(self.monitor)
        better = before is None or (value < before if self.mode == "min" else value > before)
        self.improved = math.isfinite(value) and better
        if self.improved:
            kept = {key: number for key, number in metrics.items() if not key.startswith("lr-")}
            self.best = {"epoch": trainer.current_epoch, "step": trainer.global_step, "metrics": kept}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best} if self.best else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = dict(state_dict.get("best", {}))


def best_epoch(trainer: Trainer) -> dict[str, Any]:
    """What the trainer's `BestEpoch` kept; empty without one."""
    return next((callback.best for callback in trainer.callbacks if isinstance(callback, BestEpoch)), {})  # type: ignore[attr-defined]
