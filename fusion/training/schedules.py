"""Learning-rate schedules as a function of the fractional epoch."""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fusion.errors import ConfigError


class WarmupCosineFactor:
    """Factor on a base learning rate: linear warm-up from zero, then half a cosine down to `min_lr`.

    With the fractional epoch `e = step / steps_per_epoch`: `base * e / warmup` for `e < warmup`, else
    `min_lr + (base - min_lr) * (1 + cos(pi * (e - warmup) / (epochs - warmup))) / 2` (the schedule of MAE and of the
    TC-MoA release).

    Args:
        base_lr: learning rate that the factor multiplies.
        min_lr: learning rate at the last epoch.
        warmup_epochs: length of the warm-up, in epochs.
        epochs: length of the whole schedule, in epochs.
        steps_per_epoch: optimiser steps per epoch.
        hold: optimiser steps that share one learning rate (one round over the tasks).
    """

    def __init__(
        self, base_lr: float, min_lr: float, warmup_epochs: float, epochs: float, steps_per_epoch: float, hold: int = 1
    ) -> None:
        self.base_lr = base_lr
        self.min_lr = min_lr
        self.warmup_epochs = warmup_epochs
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.hold = hold

    def __call__(self, step: int) -> float:
        """Factor at an optimiser step."""
        epoch = step // self.hold * self.hold / self.steps_per_epoch
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        span = max(self.epochs - self.warmup_epochs, 1e-8)
        progress = min((epoch - self.warmup_epochs) / span, 1.0)  # held at the end when a run is made longer
        floor = self.min_lr / self.base_lr if self.base_lr else 0.0
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_cosine(
    optimizer: Optimizer,
    steps_per_epoch: float,
    epochs: float,
    hold: int = 1,
    warmup_epochs: float = 2.0,
    min_lr: float = 1e-5,
) -> LambdaLR:
    """Linear warm-up from zero, then half a cosine, updated every optimiser step.

    Args:
        optimizer: optimiser whose groups' `lr` are the base learning rates.
        steps_per_epoch: optimiser steps per epoch.
        epochs: length of the schedule, in epochs.
        hold: steps that share one learning rate; the number of tasks when they alternate (TC-MoA release).
        warmup_epochs: length of the warm-up, in epochs.
        min_lr: learning rate at the end.

    Raises:
        ConfigError: the warm-up is negative, or the schedule has no length.
    """
    if warmup_epochs < 0:
        raise ConfigError(f"scheduler.warmup_epochs={warmup_epochs}: expected 0 or more")
    if epochs <= 0 or steps_per_epoch <= 0:
        raise ConfigError(f"the schedule needs a length, not {epochs} epochs of {steps_per_epoch} steps")
    return LambdaLR(
        optimizer,
        [
            WarmupCosineFactor(group["lr"], min_lr, warmup_epochs, epochs, steps_per_epoch, hold)
            for group in optimizer.param_groups
        ],
    )


def constant(optimizer: Optimizer, steps_per_epoch: float, epochs: float, warmup_steps: int = 0) -> LambdaLR:
    """One learning rate throughout, after an optional linear warm-up of `warmup_steps` optimiser steps."""
    return LambdaLR(optimizer, _Ramp(warmup_steps))


class _Ramp:
    def __init__(self, warmup_steps: int) -> None:
        self.warmup_steps = warmup_steps

    def __call__(self, step: int) -> float:
        return min(1.0, (step + 1) / (self.warmup_steps + 1))


def multi_step(
    optimizer: Optimizer,
    steps_per_epoch: float,
    epochs: float,
    milestones: Sequence[float] = (2 / 3, 11 / 12),
    factor: float = 0.1,
) -> LambdaLR:
    """A learning rate that drops by a factor at each milestone.

    Args:
        optimizer: optimiser whose groups' `lr` are the base learning rates.
        steps_per_epoch: optimiser steps per epoch.
        epochs: length of the schedule, in epochs.
        milestones: shares of the schedule in (0, 1), so that they move along when a run is made longer.
        factor: factor of each drop.

    Raises:
        ConfigError: milestones outside of (0, 1).
    """
    if not all(0 < milestone < 1 for milestone in milestones):
        raise ConfigError(f"scheduler.milestones={list(milestones)}: expected shares of the run between 0 and 1")
    return LambdaLR(optimizer, _Drops([round(m * epochs * steps_per_epoch) for m in milestones], factor))


class _Drops:
    def __init__(self, steps: list[int], factor: float) -> None:
        self.steps, self.factor = steps, factor

    def __call__(self, step: int) -> float:
        return self.factor ** sum(step >= drop for drop in self.steps)


def triangular(optimizer: Optimizer, steps_per_epoch: float, epochs: float) -> LambdaLR:
    """Up to the middle of the run and down again, epoch by epoch: 1 - |2 (e + 1) / (E + 1) - 1| (CTDNet release)."""
    return LambdaLR(optimizer, _Triangle(steps_per_epoch, epochs))


def poly(
    optimizer: Optimizer,
    steps_per_epoch: float,
    epochs: float,
    power: float = 1.0,
    warmup_steps: int = 1500,
    warmup_ratio: float = 1e-6,
) -> LambdaLR:
    """Polynomial decay to zero after a linear warm-up (SegFormer's recipe).

    Args:
        optimizer: its groups' `lr` are the base learning rates.
        steps_per_epoch, epochs: length of the run.
        power: exponent of the decay.
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
    warmup_epochs: float = 20.0,
    start_lr: float = 1e-4,
) -> LambdaLR:
    """From `start_lr` up to the optimiser's learning rate and back.

    Args:
        optimizer: its groups' `lr` are the peak.
        steps_per_epoch: optimiser steps per epoch.
        epochs: length of the schedule, in epochs.
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
