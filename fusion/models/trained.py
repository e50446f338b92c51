"""`TrainedModel`: what every network that is trained here has: steps, optimiser, schedule, checkpoints."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError
from fusion.models.checkpoint import restore_frozen, state_digest, write_record
from fusion.models.compiled import compile_in_place, compile_mode
from fusion.models.output import FusionOutput


class TrainedModel(LightningModule, ABC):
    """A network that learns from pairs of images.

    Subclasses implement `training_terms`, and `_evaluate` with `_finish_evaluation` for validation and test. They may override
    `frozen_state_keys` and `backbone_name` (weights left out of checkpoints) and `check_config` (values that cannot work
    together, refused before anything is built).

    Args:
        optimizer: takes parameter groups and returns an optimiser: `functools.partial(torch.optim.AdamW, lr=1e-4)`.
        scheduler: takes `(optimizer, steps_per_epoch=, epochs=)`, and `hold=` (the number of alternating tasks) if it wants it,
            and returns a scheduler that is stepped after every optimiser step (`fusion.training.schedules`); None keeps the
            learning rate.

    Attributes:
        run_name: name of the run that trains the model, kept in its checkpoints.
        config: plain configuration the model was built from, kept in its checkpoints.
        fingerprint: flat configuration that must match when a run is resumed, kept in its checkpoints.
        last_rows: per-image rows of the last validation or test, the same on every rank.
    """

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.run_name: str | None = None
        self.config: dict[str, Any] | None = None
        self.fingerprint: dict[str, Any] | None = None
        self.last_rows: list[dict[str, Any]] = []
        self._latest: dict[str, Tensor] = {}
        self._frozen_digest: str | None = None
        self._groups_of_0_1 = False

    # What a network brings -------------------------------------------------------------------------------------------

    @abstractmethod
    def training_terms(self, batch: FusionBatch) -> dict[str, Tensor]:
        """Weighted loss terms of a batch by name; training minimises their sum."""

    @abstractmethod
    def _evaluate(self, batch: FusionBatch) -> FusionOutput:
        """Evaluate a batch of validation or test, and keep its scores."""

    @abstractmethod
    def _finish_evaluation(self, stage: str) -> None:
        """Log the scores that were kept, as `<stage>/<name>`."""

    def trained_task(self, batch: FusionBatch) -> str:
        """What a training batch is logged as, in `train/<task>/loss`: the fusion task, unless a method knows better."""
        return batch["task"]

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Parameters for the optimiser: those that require gradients; vectors, biases and embeddings do not decay.

        Modules name what is not a vector by its shape, such as the biases of a bank of experts, in `no_weight_decay`.
        """
        exempt = [
            f"{prefix}.{name}" if prefix else name
            for prefix, module in self.named_modules()
            for name in getattr(module, "no_weight_decay", ())
            if not self._groups_of_0_1
        ]
        return param_groups_weight_decay(self, weight_decay, no_weight_decay_list=exempt)

    def frozen_state_keys(self) -> set[str]:
        """State-dict keys that checkpoints leave out, because named weights bring them back."""
        return set()

    def backbone_name(self) -> str:
        """Name of the weights that `frozen_state_keys` come from, for messages."""
        return "unnamed"

    def compile_network(self, mode: str | bool = "default") -> None:
        """Compile the part that carries the work; in place, so that state-dict keys stay.

        Args:
            mode: see `fusion.models.compiled`; True is "default", False compiles nothing.

        Raises:
            ConfigError: an unknown mode.
        """
        network, chosen = getattr(self, "network", None), compile_mode(mode)
        if chosen is not None:
            compile_in_place(network if isinstance(network, nn.Module) else self, chosen)

    # Steps -----------------------------------------------------------------------------------------------------------

    def training_step(self, batch: FusionBatch, batch_idx: int) -> dict[str, Any]:
        terms = self.training_terms(batch)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        detached = {name: term.detach().float() for name, term in terms.items()} | {"loss": loss.detach()}
        task = self.trained_task(batch)
        self._latest |= {f"train/{task}/{name}": value for name, value in detached.items()}
        self._log_latest(len(batch["a"]))
        return {"loss": loss, "terms": detached, "task": task}

    def _log_latest(self, batch_size: int) -> None:
        # One step shows one task: the newest values of all tasks are logged together, so that no task is missed when
        # their number divides log_every_n_steps. Ranks are averaged only then, with one reduction.
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or (self.trainer.global_step + 1) % every:
            return
        values = torch.stack(list(self._latest.values()))
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(values)
            values /= dist.get_world_size()
        for name, value in zip(self._latest, values, strict=True):
            self.log(name, value, prog_bar=name.endswith("/loss"), batch_size=batch_size)

    def validation_step(self, batch: FusionBatch, batch_idx: int) -> FusionOutput:  # type: ignore[override]
        return self._evaluate(batch)

    def test_step(self, batch: FusionBatch, batch_idx: int) -> FusionOutput:  # type: ignore[override]
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._finish_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def predict_step(self, batch: FusionBatch, batch_idx: int) -> FusionOutput:
        return self(batch["a"], batch["b"], batch["task"])

    # Optimiser -------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        if self.optimizer is None:
            raise ConfigError("the model has no optimizer: give one, as conf/optimizer does")
        groups = self._optimizer_groups()
        if not groups:
            raise ConfigError(f"{type(self).__name__} has no parameters to train: evaluate it instead")
        optimizer = self.optimizer(groups)
        if self.scheduler is None:
            return optimizer
        steps_per_epoch, epochs = self._schedule_length()
        length: dict[str, Any] = {"steps_per_epoch": steps_per_epoch, "epochs": epochs}
        accepted = inspect.signature(self.scheduler).parameters.values()
        if any(parameter.name == "hold" or parameter.kind is parameter.VAR_KEYWORD for parameter in accepted):
            length["hold"] = len(getattr(self._data(), "tasks", ())) or 1
        scheduler = self.scheduler(optimizer, **length)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _optimizer_groups(self) -> list[dict[str, Any]]:
        decay = getattr(self.optimizer, "keywords", {}).get("weight_decay", 0.0)
        return [group for group in self.parameter_groups(decay) if group["params"]]

    def _data(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _schedule_length(self) -> tuple[float, float]:
        # Not trainer.estimated_stepping_batches: asking it builds the loaders early and drops their restored state.
        batches = getattr(self._data(), "steps_per_epoch", None)
        if not batches:
            raise ConfigError("a learning-rate schedule needs a datamodule that knows its `steps_per_epoch`")
        limit = self.trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))
        steps = max(1.0, batches / self.trainer.accumulate_grad_batches)
        lengths = []
        if self.trainer.max_epochs is not None and self.trainer.max_epochs > 0:
            lengths.append(float(self.trainer.max_epochs))
        if self.trainer.max_steps > 0:
            lengths.append(self.trainer.max_steps / steps)
        if not lengths:
            raise ConfigError("a learning-rate schedule needs an end: set trainer.max_epochs or trainer.max_steps")
        return steps, min(lengths)

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _digest(self, keys: set[str]) -> str | None:
        if keys and self._frozen_digest is None:  # frozen: computed once
            self._frozen_digest = state_digest(self.state_dict(), keys)
        return self._frozen_digest if keys else None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        keys = self.frozen_state_keys()
        about = {"name": self.run_name, "model": self.config or {}, "fingerprint": self.fingerprint or {}}
        write_record(checkpoint, about, keys, self._digest(keys), self.backbone_name())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        keys = self.frozen_state_keys()
        restore_frozen(checkpoint, self.state_dict(), keys, self._digest(keys), self.backbone_name())
        self._regroup(checkpoint.get("optimizer_states", ()))

    def _regroup(self, states: Sequence[dict[str, Any]]) -> None:
        """Bring optimiser states of version 0.1, where stacked biases and embeddings decayed, into the present groups."""
        if self.optimizer is None or not states:
            return
        groups = self._optimizer_groups()
        self._groups_of_0_1 = True
        before = [parameter for group in self._optimizer_groups() for parameter in group["params"]]
        old_sizes = [len(group["params"]) for group in self._optimizer_groups()]
        self._groups_of_0_1 = False
        sizes = [len(group["params"]) for group in groups]
        if sizes == old_sizes or len(sizes) != len(old_sizes):
            return
        place = {id(parameter): index for index, parameter in enumerate(before)}
        order = [place[id(parameter)] for group in groups for parameter in group["params"]]
        for state in states:
            if [len(group["params"]) for group in state["param_groups"]] != old_sizes:
                continue
            state["state"] = {new: state["state"][old] for new, old in enumerate(order) if old in state["state"]}
            start = 0
            for size, group in zip(sizes, state["param_groups"], strict=True):
                group["params"], start = list(range(start, start + size)), start + size
