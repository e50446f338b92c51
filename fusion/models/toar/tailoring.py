"""How T-OAR trains: against the frozen network of the task that an instruction asks for (Sec. 3.4, Eq. 9)."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError, DataError
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput
from fusion.models.toar import color
from fusion.models.toar.fidelity import Fidelity
from fusion.models.toar.instructions import Instructions
from fusion.models.toar.network import BaseFusionNetwork, is_trained
from fusion.models.toar.regulation import Regulation
from fusion.models.toar.text import TextFeatures


class Tailoring(FusionModel):
    """The training half of `TOAR`, which makes its parts."""

    network: BaseFusionNetwork
    regulation: Regulation
    text: TextFeatures
    instructions: Instructions
    fidelity: Fidelity | None
    share: float
    _makers: dict[str, Callable[[], Any]]
    _tasks: dict[str, Any]
    _val: dict[str, list[Tensor]]

    def train(self, mode: bool = True) -> Self:
        """The base network stays as it is, its batch norms too."""
        super().train(mode)
        self.network.eval()
        return self

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """All of T-OAR alike: the released code decays biases too."""
        return [{"params": [p for p in self.regulation.parameters() if p.requires_grad]}]

    def setup(self, stage: str) -> None:
        """Load the task networks and let the text encoder read the instructions, once.

        Raises:
            ConfigError: no task network, or no trained base network.
        """
        if stage != "fit" or self._tasks:
            return
        if not self._makers:
            raise ConfigError("model.task_networks is empty: T-OAR trains against at least one task's network")
        if not is_trained(self.network):
            raise ConfigError("model.base_weights is null: stage two stands on a run of experiment=toar_stage1")
        self._tasks = {task: make() for task, make in self._makers.items()}
        for task in self._tasks.values():
            task.check_data(getattr(self.trainer, "datamodule", None) if self._trainer is not None else None)
        self.text(self.instructions.all)

    def batch_controls(self, batch: FusionBatch) -> dict[str, Any]:
        """The instructions of a batch; in training sometimes in other words."""
        sentences = batch.get("instruction")
        if sentences is None:
            return {}
        share = self.share if self.training else 0.0
        return {"instruction": [self.instructions.paraphrase(text, share) if share else text for text in sentences]}

    def trained_task(self, batch: FusionBatch) -> str:
        """The task that all instructions of a batch ask for.

        Raises:
            ConfigError: instructions of several tasks in one batch, or of a task without a network.
        """
        asked = {self.instructions.task_of(text) for text in batch["instruction"]}
        if len(asked) > 1 or not asked <= self._tasks.keys():
            known = ", ".join(self._tasks) or "none"
            raise ConfigError(
                f"a batch asks for {', '.join(sorted(asked))}; expected one task of model.task_networks ({known})"
            )
        return asked.pop()

    def losses(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """Eq. 9: the loss of the network of the instructed task; and the terms of `fidelity`, where there is one.

        Raises:
            DataError: pairs without an instruction.
            ConfigError: see `trained_task`.
        """
        if not batch.get("instruction"):
            raise DataError(
                "these pairs have no instruction: T-OAR trains on data that says its task (data=toar_stage2)"
            )
        with torch.autocast(output.fused.device.type, enabled=False):
            terms = self._tasks[self.trained_task(batch)].losses(output.fused.float(), batch)
        return terms | self._kept(output, batch)

    def _kept(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        if self.fidelity is None:
            return {}
        visible, infrared = color.split(batch["a"])[0], batch["b"][:, :1]
        with torch.no_grad():
            plain = self.network(infrared, visible)
        return self.fidelity(output.extras["luma"], plain, infrared, visible)

    def validation_step(self, batch: FusionBatch, batch_idx: int) -> FusionOutput:  # type: ignore[override]
        """Fusion metrics, and where the network of the instructed task is loaded its loss, `val/loss`."""
        output = super().validation_step(batch, batch_idx)
        if self._tasks and batch.get("instruction"):
            task = self.instructions.task_of(batch["instruction"][0])
            if task in self._tasks:
                self._val.setdefault(task, []).append(torch.stack(list(self.losses(output, batch).values())).sum())
        return output

    def on_validation_epoch_end(self) -> None:
        """Means by task, and over the tasks."""
        super().on_validation_epoch_end()
        means = {task: torch.stack(values).mean() for task, values in self._val.items()}
        self._val = {}
        if means:
            named = {f"val/{task}/loss": mean for task, mean in means.items()}
            self.log_dict(named | {"val/loss": torch.stack(list(means.values())).mean()}, batch_size=1, sync_dist=True)
