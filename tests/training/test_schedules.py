"""Learning rates against the formula of the recipe."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from fusion.errors import ConfigError
from fusion.training.schedules import constant, warmup_cosine


def rates(scheduler: LambdaLR, steps: int) -> list[list[float]]:
    """Learning rates of all groups, step by step."""
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def optimizer(*bases: float) -> torch.optim.Optimizer:
    """One group per base learning rate."""
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": base} for base in bases])


@pytest.mark.parametrize("hold", [1, 3])
def test_warmup_cosine_follows_the_recipe(hold: int) -> None:
    steps_per_epoch, epochs, warmup, floor = 12, 5, 2, 1e-5
    scheduler = warmup_cosine(optimizer(1.5e-4, 3e-4), steps_per_epoch, epochs, hold, warmup, floor)
    for step, row in enumerate(rates(scheduler, steps_per_epoch * epochs + 6)):
        e = (step // hold) * hold / steps_per_epoch
        for base, rate in zip((1.5e-4, 3e-4), row, strict=True):
            if e < warmup:
                expected = base * e / warmup
            elif e < epochs:
                expected = floor + (base - floor) * 0.5 * (1 + math.cos(math.pi * (e - warmup) / (epochs - warmup)))
            else:
                expected = floor  # a run made longer stays at the end
            assert rate == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_tasks_of_a_round_share_one_rate() -> None:
    row = [rate for (rate,) in rates(warmup_cosine(optimizer(1.0), 6, 4, hold=3, warmup_epochs=1), 12)]
    assert [len(set(row[start : start + 3])) for start in range(0, 12, 3)] == [1] * 4
    assert row[0] == 0 and row[3] > 0


def test_without_warmup_the_first_step_has_the_base_rate() -> None:
    assert rates(warmup_cosine(optimizer(0.5), 3, 2, warmup_epochs=0), 1) == [[0.5]]


def test_state_is_plain_and_restores(tmp_path) -> None:
    scheduler = warmup_cosine(optimizer(0.5), 3, 4)
    rates(scheduler, 5)
    torch.save(scheduler.state_dict(), tmp_path / "state")
    other = warmup_cosine(optimizer(0.5), 3, 4)
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert other.get_last_lr() == scheduler.get_last_lr()
    assert other.last_epoch == 5


def test_constant_after_a_ramp() -> None:
    assert [rate for (rate,) in rates(constant(optimizer(1.0), 1, 1, warmup_steps=3), 5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("wrong", [{"warmup_epochs": -1}, {"epochs": 0}, {"steps_per_epoch": 0}])
def test_impossible_lengths_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        warmup_cosine(optimizer(1.0), **({"steps_per_epoch": 3, "epochs": 2} | wrong))
