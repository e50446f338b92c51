"""Random numbers that depend on the step alone."""

import hashlib
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class StepSeed(Callback):
    """Seeds PyTorch's generators from (seed, optimiser step, batch, rank) before every training batch.

    Gate noise and dropout are then a function of the step: a resumed run equals an undisturbed one, without any
    generator state in checkpoints.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(step_seed(self.seed, trainer.global_step, batch_idx, trainer.global_rank))


def step_seed(*values: int) -> int:
    """A well mixed 63-bit seed of some integers."""
    text = ",".join(str(value) for value in values)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
