"""Progress: a bar on a terminal, a line now and then in a log file."""

import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar


def progress_bar(interval: float = 10.0, bar: bool | None = None) -> ProgressBar:
    """A `RichProgressBar` on a terminal, else `LineProgress`.

    Args:
        interval: seconds between two lines of `LineProgress`.
        bar: True or False decide instead of looking for a terminal.
    """
    use_bar = sys.stdout.isatty() if bar is None else bar
    return RichProgressBar(leave=True) if use_bar else LineProgress(interval)


class LineProgress(ProgressBar):
    """Prints one line every `interval` seconds: epoch, step, the loss of each task, speed and time to go.

    Args:
        interval: seconds between two lines.
    """

    def __init__(self, interval: float = 10.0) -> None:
        super().__init__()
        self.interval = interval
        self._enabled = True
        self._losses: dict[str, Any] = {}

    def enable(self) -> None:
        """Print."""
        self._enabled = True

    def disable(self) -> None:
        """Do not print: other ranks."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_time = time.monotonic()
        self._first_time, self._first_step = self._last_time, trainer.global_step

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs is not None and "loss" in outputs:
            self._losses[outputs.get("task", "")] = outputs["loss"].detach()
        now = time.monotonic()
        if self._enabled and now - self._last_time >= self.interval:
            self._last_time = now
            print(self._line(trainer, batch_idx, now), flush=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._enabled and not trainer.sanity_checking:
            now = time.monotonic()
            self._last_time = now
            scores = {
                key: f"{float(value):.4g}" for key, value in trainer.callback_metrics.items() if key.startswith("val/")
            }
            line = self._line(trainer, int(self.total_train_batches) - 1, now)
            print(line + "".join(f"  {key} {value}" for key, value in scores.items()), flush=True)

    def _line(self, trainer: Trainer, batch_idx: int, now: float) -> str:
        total = self.total_train_batches
        done = trainer.global_step - self._first_step
        speed = done / max(now - self._first_time, 1e-9)
        losses = "  ".join(f"{task} {float(loss):.4g}".strip() for task, loss in self._losses.items())
        epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
        return (
            f"epoch {trainer.current_epoch + 1}/{epochs}  step {batch_idx + 1}/{total}  loss: {losses}  "
            f"{speed:.2f} it/s  {_clock(self._steps_left(trainer) / speed if speed else 0)} left"
        )

    def _steps_left(self, trainer: Trainer) -> float:
        ends = []
        if trainer.max_steps > 0:
            ends.append(float(trainer.max_steps))
        if trainer.max_epochs and trainer.max_epochs > 0:
            ends.append(trainer.max_epochs * float(self.total_train_batches) / trainer.accumulate_grad_batches)
        return max(0.0, min(ends) - trainer.global_step) if ends else 0.0


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
