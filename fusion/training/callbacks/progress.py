"""Progress of training, evaluation and prediction: one line, with pairs per second and time left."""

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from fusion.job.meter import Meter, clock, rate


def progress_bar(interval: float = 10.0, bar: bool | None = None) -> "LineProgress":
    """The progress line.

    Args:
        interval: seconds between two lines where there is no terminal.
        bar: rewrite one line (True), or write lines (False); None looks for a terminal.
    """
    return LineProgress(interval, bar)


class LineProgress(ProgressBar):
    """A line with epoch, step, the loss of each task, pairs per second and time to go; at validation also the scores.

    Args:
        interval: seconds between two lines; a terminal is rewritten twice a second.
        live: rewrite one line; None: where the output is a terminal.
    """

    def __init__(self, interval: float = 10.0, live: bool | None = None) -> None:
        super().__init__()
        self.interval, self.live = interval, live
        self._enabled = True
        self._losses: dict[str, Any] = {}
        self._meter: Meter | None = None

    def enable(self) -> None:
        """Print."""
        self._enabled = True

    def disable(self) -> None:
        """Do not print: other ranks."""
        self._enabled = False

    # Training --------------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._screen = Meter(None, "", self.interval, self.live)
        self._last_time = time.monotonic()
        self._first_time, self._first_step, self._pairs = self._last_time, trainer.global_step, 0

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._pairs += _pairs(batch) * trainer.world_size
        if outputs is not None and "loss" in outputs:
            self._losses[outputs.get("task", "")] = outputs["loss"].detach()
        now = time.monotonic()
        if self._enabled and now - self._last_time >= (min(0.5, self.interval) if self._screen.live else self.interval):
            self._last_time = now
            self._screen.write(self._line(trainer, batch_idx, now))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._enabled and not trainer.sanity_checking:
            now = time.monotonic()
            self._last_time = now
            scores = {
                key: f"{float(value):.4g}" for key, value in trainer.callback_metrics.items() if key.startswith("val/")
            }
            line = self._line(trainer, trainer.fit_loop.epoch_loop.batch_idx, now)
            self._screen.write(line + "".join(f"  {key} {value}" for key, value in scores.items()))
            self._screen.end_line()

    def _line(self, trainer: Trainer, batch_idx: int, now: float) -> str:
        total = trainer.num_training_batches
        spent = max(now - self._first_time, 1e-9)
        steps = (trainer.global_step - self._first_step) / spent
        losses = "  ".join(f"{task} {float(loss):.4g}".strip() for task, loss in self._losses.items())
        epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
        return (
            f"epoch {trainer.current_epoch + 1}/{epochs}  step {batch_idx + 1}/{total}  loss: {losses}  "
            f"{rate(self._pairs / spent)}  {clock(self._steps_left(trainer) / steps if steps else 0)} left"
        )

    def _steps_left(self, trainer: Trainer) -> float:
        ends = []
        if trainer.max_steps > 0:
            ends.append(float(trainer.max_steps))
        if trainer.max_epochs and trainer.max_epochs > 0:
            ends.append(trainer.max_epochs * float(self.total_train_batches) / trainer.accumulate_grad_batches)
        return max(0.0, min(ends) - trainer.global_step) if ends else 0.0

    # Evaluation and prediction ---------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._begin(trainer, "scored")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, "scored")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, "fused")

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._step(batch, trainer)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._step(batch, trainer)

    def on_predict_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._step(batch, trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def _begin(self, trainer: Trainer, what: str) -> None:
        name = getattr(trainer.lightning_module, "run_name", None) or type(trainer.lightning_module).__name__
        self._meter = Meter(_total(trainer), f"{name}: {what}", self.interval, self.live) if self._enabled else None

    def _step(self, batch: Any, trainer: Trainer) -> None:
        if self._meter is not None:
            self._meter.step(_pairs(batch) * trainer.world_size)

    def _end(self) -> None:
        if self._meter is not None:
            self._meter.close()
        self._meter = None


def _pairs(batch: Any) -> int:
    return len(batch["name"]) if isinstance(batch, dict) and "name" in batch else 1


def _total(trainer: Trainer) -> int | None:
    """Pairs of the evaluation, where the data know their number and no limit is set."""
    known: dict[TrainerFn | None, str]
    known = {TrainerFn.TESTING: "test", TrainerFn.VALIDATING: "val", TrainerFn.PREDICTING: "predict"}
    part = known.get(trainer.state.fn)
    sets = getattr(trainer.datamodule, "parts", {}).get(part)  # type: ignore[attr-defined]
    limit = {"test": trainer.limit_test_batches, "val": trainer.limit_val_batches}.get(str(part), 1.0)
    if not sets or limit != 1.0:
        return None
    return sum(len(one) for one in sets.values())
