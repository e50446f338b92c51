"""The learning rate of stage one: up in a line, down along a cosine, one value per epoch (Sec. 4.2; released code)."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fusion.errors import ConfigError


class RampCosineFactor:
    """Factor on the peak learning rate at an optimiser step.

    With the whole epoch `e`: `start + e * (1 - start) / warmup` for `e < warmup`, else
    `start + (1 - start) * (1 + cos(pi * (e - warmup) / (epochs - warmup))) / 2`.

    Args:
        start: first and last learning rate as a share of the peak.
        warmup_epochs: length of the ramp.
        epochs: length of the whole schedule.
        steps_per_epoch: optimiser steps per epoch.
    """

    def __init__(self, start: float, warmup_epochs: float, epochs: float, steps_per_epoch: float) -> None:
        self.start, self.warmup_epochs, self.epochs = start, warmup_epochs, epochs
        self.steps_per_epoch = steps_per_epoch

    def __call__(self, step: int) -> float:
        """Factor at an optimiser step."""
        epoch = math.floor(step / self.steps_per_epoch)
        if epoch < self.warmup_epochs:
            return self.start + epoch * (1 - self.start) / self.warmup_epochs
        progress = min(1.0, (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-8))
        return self.start + (1 - self.start) * (1 + math.cos(math.pi * progress)) / 2


def ramp_cosine(
    optimizer: Optimizer,
    steps_per_epoch: float,
    epochs: float,
    hold: int = 1,
    warmup_epochs: float = 20.0,
    start_lr: float = 1e-4,
) -> LambdaLR:
    """From `start_lr` up to the optimiser's learning rate and back.

    Args:
        optimizer: its groups' `lr` are the peak.
        steps_per_epoch: optimiser steps per epoch.
        epochs: length of the schedule, in epochs.
        hold: not used.
        warmup_epochs: length of the ramp, in epochs.
        start_lr: learning rate of the first and the last epoch.

    Raises:
        ConfigError: a ramp of negative length, or one that starts above the peak.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    if warmup_epochs < 0:
        raise ConfigError(f"scheduler.warmup_epochs={warmup_epochs}: expected 0 or more")
    if not 0 <= start_lr <= min(peaks):
        raise ConfigError(f"scheduler.start_lr={start_lr}: expected 0 to optimizer.lr={min(peaks)}")
    return LambdaLR(
        optimizer, [RampCosineFactor(start_lr / peak, warmup_epochs, epochs, steps_per_epoch) for peak in peaks]
    )
