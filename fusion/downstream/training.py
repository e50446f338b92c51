"""What the training of every network that looks at fused images has in common."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput
from fusion.models.trained import TrainedModel

IMAGES = ("fused", "a", "b", "both")
T = TypeVar("T")


class Scores(Protocol):
    """Collects predictions with what is true, and says how good they are."""

    def add(self, prediction: Tensor, batch: FusionBatch) -> None:
        """Add a batch."""
        ...

    def compute(self) -> dict[str, float | None]:
        """Scores by name, over all ranks."""
        ...


class TaskTraining(TrainedModel):
    """A network for one task on single images, trained on what a method fuses, or on the sources.

    Subclasses set `network` and say its losses, predictions and scores.

    Args:
        images: what it looks at: "fused", "a" (visible), "b" (infrared) or "both" (each pair is two images).
        fuser: fuses for "fused"; frozen, and no part of checkpoints. None: only the sources can be trained on.
        base: see `TrainedModel`.

    Raises:
        ConfigError: unknown `images`, or "fused" without a fuser.
    """

    def __init__(self, images: str = "fused", fuser: FusionModel | None = None, **base: Any) -> None:
        super().__init__(**base)
        if images not in IMAGES:
            raise ConfigError(f"model.images={images} is not one of {', '.join(IMAGES)}")
        self.images = images
        self._fuser = [] if fuser is None else [fuser.eval().requires_grad_(False)]  # hidden from state_dict
        self._loaded = False
        self._collected: Scores | None = None

    network: nn.Module

    @abstractmethod
    def image_losses(self, images: Tensor, batch: FusionBatch) -> dict[str, Tensor]:
        """Weighted terms of images `(B, 3, H, W)` in [0, 1] with the labels of their pairs."""

    @abstractmethod
    def predict_images(self, images: Tensor) -> Tensor:
        """What the network makes of images, at their size and ready for `scores`."""

    @abstractmethod
    def scores(self) -> Scores:
        """Empty scores."""

    @abstractmethod
    def load_pretrained(self) -> None:
        """Load what training starts from."""

    # A TrainedModel ----------------------------------------------------------------------------------------------------

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", **controls: Any) -> FusionOutput:
        """The images that the network looks at, `(B or 2B, 3, H, W)`; what it makes of them is in the subclasses' hands.

        Raises:
            ConfigError: images are to be fused, but there is no fuser.
        """
        if self.images == "both":
            return FusionOutput(torch.cat([a, b]))
        if self.images != "fused":
            return FusionOutput(a if self.images == "a" else b)
        if not self._fuser:
            raise ConfigError("model.images=fused needs a model.fuser; or train on a source: model.images=a")
        fuser = self._fuser[0].to(a.device).eval()
        with torch.no_grad():
            return FusionOutput(fuser._fuse_tensor(a, b, task).fused.float().clamp(0, 1).expand(-1, 3, -1, -1))

    def training_terms(self, batch: FusionBatch) -> dict[str, Tensor]:
        """Terms of `image_losses` for the images that the network looks at."""
        return self.losses(self(batch["a"], batch["b"], batch["task"]), batch)

    def losses(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """Terms of `image_losses`."""
        twice = len(output.fused) == 2 * len(batch["a"])
        return self.image_losses(output.fused, doubled(batch) if twice else batch)

    def setup(self, stage: str) -> None:
        """Training starts from the named weights, unless a checkpoint has brought some."""
        if stage == "fit" and not self._loaded and not getattr(self.trainer, "fast_dev_run", False):
            self._loaded = True
            self.load_pretrained()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint has all weights."""
        self._loaded = True
        super().on_load_checkpoint(checkpoint)

    def _evaluate(self, batch: FusionBatch) -> FusionOutput:
        output = self(batch["a"], batch["b"], batch["task"])
        if self._collected is None:
            self._collected = self.scores()
        labels = doubled(batch) if self.images == "both" else batch
        self._collected.add(self.predict_images(output.fused), labels)
        return output

    def _finish_evaluation(self, stage: str) -> None:
        self.last_rows = []
        if self._collected is None:  # a rank without images meets the others in `compute`
            self._collected = self.scores()
        values = self._collected.compute()
        self._collected = None
        self.log_dict({f"{stage}/{name}": value for name, value in values.items() if value is not None}, batch_size=1)


def doubled(batch: FusionBatch) -> FusionBatch:
    """The labels of a batch twice, for both images of its pairs."""
    twice: dict[str, Any] = {}
    for key, value in batch.items():
        twice[key] = (
            torch.cat([value, value]) if isinstance(value, Tensor) else value * 2 if isinstance(value, list) else value
        )
    return twice  # type: ignore[return-value]


def load_trained(ckpt_path: str | Path | None, kind: type[T], key: str, experiment: str) -> T:
    """A trained network from its checkpoint or run folder, in evaluation mode.

    Args:
        ckpt_path: checkpoint or run folder.
        kind: class of the module that was trained.
        key: configuration key of the path, for messages.
        experiment: that trains one, for messages.

    Raises:
        ConfigError: no path, or the checkpoint holds something else.
        WeightsError: missing or damaged.
    """
    from fusion.job.config import check, instantiate
    from fusion.models.loading import find_checkpoint, load_checkpoint, read_checkpoint, recorded_model

    if not ckpt_path:
        raise ConfigError(f"{key} has no value yet: give a run folder of experiment={experiment}")
    path = find_checkpoint(ckpt_path)
    content = read_checkpoint(path)
    config = recorded_model(content)
    if config is None or not str(config.get("_target_")).endswith(f".{kind.__name__}"):
        raise ConfigError(f"{key}={ckpt_path}: expected a run of experiment={experiment}")
    config = {name: value for name, value in config.items() if name != "fuser"}  # only training fuses
    model: Any = instantiate(check(config, "model"))
    load_checkpoint(model, path, content)
    return model.eval()


def faster_part(
    groups: Mapping[str, list[nn.Parameter]], factors: Mapping[str, float], optimizer: Callable[..., Any] | None
) -> list[dict[str, Any]]:
    """Parameter groups whose learning rates are the optimiser's times a factor each."""
    lr = getattr(optimizer, "keywords", {}).get("lr")
    return [
        {"params": parameters} | ({} if lr is None else {"lr": lr * factors.get(name, 1.0)})
        for name, parameters in groups.items()
        if parameters
    ]
