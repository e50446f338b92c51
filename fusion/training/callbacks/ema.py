"""Exponential moving average of parameters."""

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import Parameter

from fusion.errors import ConfigError
from fusion.training.fsdp import sharded


class EMA(Callback):
    """Follows trainable parameters by `shadow = decay * shadow + (1 - decay) * parameter`, once per optimiser step.

    By default the average is only tracked and kept in checkpoints, as the TC-MoA release (which computes it and never
    uses it) effectively does.

    Args:
        decay: share of the old average that stays, in [0, 1] (TC-MoA release: 0.99).
        patterns: `fnmatch` patterns of parameter names to follow.
        eval: validate and test with the averages. Checkpoints then hold them as the model's weights (what was scored is
            what is saved) and the raw weights beside, which a resumed run continues from.
        write_back: copy the averages into the model when training ends; the last checkpoint then holds them.
    """

    def __init__(
        self, decay: float = 0.99, patterns: Sequence[str] = ("*",), eval: bool = False, write_back: bool = False
    ) -> None:
        self.decay = decay
        self.patterns = tuple(patterns)
        self.eval = eval
        self.write_back = write_back
        self.shadow: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] = {}  # set aside while the averages are in the model, or restored
        self._swapped = False
        self._loaded_average = False
        self._step = 0
        self._parameters: dict[str, Parameter] = {}  # of a training, by name: looked for once, not at every step

    def _followed(self, module: LightningModule) -> dict[str, Tensor]:
        parameters = self._parameters or {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad and any(fnmatch(name, pattern) for pattern in self.patterns)
        }
        return {name: parameter.data for name, parameter in parameters.items()}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if sharded(trainer):
            raise ConfigError("callbacks.ema averages whole weights, which FSDP shards: add callbacks.ema=null")
        self._parameters = {}  # of a training that failed
        followed = self._followed(pl_module)
        if self._raw and not self._swapped:
            for name, value in self._raw.items():
                followed[name].copy_(value)
            self._raw = {}
        self.shadow = {
            name: self.shadow[name].to(value) if name in self.shadow else value.clone()
            for name, value in followed.items()
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        trained = dict(pl_module.named_parameters())
        self._parameters = {name: trained[name] for name in self._followed(pl_module)}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self._step or not self.shadow:
            return  # gradients are still being accumulated
        self._step = trainer.global_step
        followed = self._followed(pl_module)
        torch._foreach_lerp_([self.shadow[name] for name in followed], list(followed.values()), 1.0 - self.decay)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.write_back:
            for name, value in self._followed(pl_module).items():
                value.copy_(self.shadow[name])
        self._parameters = {}

    # Evaluation with the averages -----------------------------------------------------------------------------------

    def _swap_in(self, module: LightningModule) -> None:
        if not (self.eval and self.shadow) or self._swapped:
            return
        followed = self._followed(module)
        self._raw = {name: value.clone() for name, value in followed.items()}
        for name, value in followed.items():
            value.copy_(self.shadow[name])
        self._swapped = True

    def _swap_out(self, module: LightningModule) -> None:
        if self._swapped:
            for name, value in self._followed(module).items():
                value.copy_(self._raw[name])
            self._raw, self._swapped = {}, False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap_in(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap_out(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._loaded_average:  # a loaded checkpoint already holds the averages it was scored with
            self._swap_in(pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap_out(pl_module)
        self._loaded_average = False

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"shadow": {name: value.detach().clone() for name, value in self.shadow.items()}} if self.shadow else {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not (self.eval and self.shadow):
            return
        followed = self._raw if self._swapped else self._followed(pl_module)
        checkpoint["callbacks"][self.state_key]["raw"] = {name: value.clone() for name, value in followed.items()}
        checkpoint["state_dict"] = dict(checkpoint["state_dict"]) | {
            name: value.clone() for name, value in self.shadow.items()
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded_average = trainer.state.fn != TrainerFn.FITTING

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._loaded_average:
            return
        self.shadow = dict(state_dict["shadow"])
        self._raw = dict(state_dict.get("raw", {}))
