"""Learning-rate schedules of the task networks' own recipes."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fusion.errors import ConfigError


def triangular(optimizer: Optimizer, steps_per_epoch: float, epochs: float, hold: int = 1) -> LambdaLR:
    """Up to the middle of the run and down again, epoch by epoch: 1 - |2 (e + 1) / (E + 1) - 1| (CTDNet release)."""
    return LambdaLR(optimizer, _Triangle(steps_per_epoch, epochs))


def poly(
    optimizer: Optimizer,
    steps_per_epoch: float,
    epochs: float,
    hold: int = 1,
    power: float = 1.0,
    warmup_steps: int = 1500,
    warmup_ratio: float = 1e-6,
) -> LambdaLR:
    """Polynomial decay to zero after a linear warm-up (SegFormer's recipe).

    Args:
        optimizer: its groups' `lr` are the base learning rates.
        steps_per_epoch, epochs: length of the run.
        hold: not used.
        power: of the decay.
        warmup_steps: optimiser steps of the warm-up; at most a tenth of the run, so that short runs learn too.
        warmup_ratio: share of the learning rate it starts from.

    Raises:
        ConfigError: a negative number of steps.
    """
    if warmup_steps < 0:
        raise ConfigError(f"scheduler.warmup_steps={warmup_steps}: expected 0 or more")
    total = max(1, round(steps_per_epoch * epochs))
    return LambdaLR(optimizer, _Poly(total, power, min(warmup_steps, total // 10), warmup_ratio))


class _Triangle:
    def __init__(self, steps_per_epoch: float, epochs: float) -> None:
        self.steps_per_epoch, self.epochs = steps_per_epoch, epochs

    def __call__(self, step: int) -> float:
        epoch = math.floor(step / self.steps_per_epoch)
        return max(0.0, 1 - abs(2 * (epoch + 1) / (self.epochs + 1) - 1))


class _Poly:
    def __init__(self, total: int, power: float, warmup: int, ratio: float) -> None:
        self.total, self.power, self.warmup, self.ratio = total, power, warmup, ratio

    def __call__(self, step: int) -> float:
        decay = max(0.0, 1 - step / self.total) ** self.power
        if step < self.warmup:
            decay *= 1 - (1 - step / self.warmup) * (1 - self.ratio)
        return decay
