"""Norms to watch: of the gradients, and of what the average of the weights is away from them."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from fusion.training.callbacks.ema import EMA
from fusion.training.fsdp import total_norm


class NormMonitor(Callback):
    """Logs `norm/gradient` (2-norm over all trained parameters, before clipping) every `log_every_n_steps` steps.

    At each validation also `norm/weights` of the trained parameters and `norm/ema_distance`, the 2-norm of the average
    minus the weights over that of the weights, where an EMA runs.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or (trainer.global_step + 1) % every:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            pl_module.log("norm/gradient", total_norm(gradients, trainer), batch_size=1)

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not trainer.optimizers:
            return
        weights = {name: p for name, p in pl_module.named_parameters() if p.requires_grad}
        values: dict[str, Any] = {"norm/weights": total_norm(list(weights.values()), trainer)}
        ema = next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)  # type: ignore[attr-defined]
        if ema is not None and ema.shadow:
            apart = [ema.shadow[name] - weights[name] for name in ema.shadow if name in weights]
            followed = [weights[name] for name in ema.shadow if name in weights]
            values["norm/ema_distance"] = total_norm(apart, trainer) / total_norm(followed, trainer).clamp_min(1e-12)
        pl_module.log_dict(values, batch_size=1)
