"""How well networks do a task on fused images: what the tasks have in common.

Works beside a fusion model's evaluation: each method gets a callback that looks at its fused images.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fusion.data.files.image import read_image, resize
from fusion.data.files.pairs import list_images
from fusion.downstream.training import Scores, TaskTraining
from fusion.errors import DataError
from fusion.files import markdown, write_csv, write_text
from fusion.models.output import FusionOutput
from fusion.names import fold


class DownstreamEvaluation(ABC):
    """Scores of a task on what methods fuse, a row per method.

    Args:
        ckpt_path: trained network that looks at all methods (T-OAR Setting 1): checkpoint or run folder.
        networks: networks of their own by method, trained on that method's images (Settings 2 and 3); the rest take
            `ckpt_path`.
        sources: also score the visible and the infrared images.
        fused: folders of other methods' fused images by method, named as the pairs.

    Raises:
        FusionError: no network there, or no folder.
    """

    task: ClassVar[str]
    """Name of the tables."""
    columns: ClassVar[Sequence[tuple[str, str, float, int]]]
    """Score, heading, factor and decimals of the Markdown table."""

    def __init__(
        self,
        ckpt_path: str | None = None,
        networks: Mapping[str, str] | None = None,
        sources: bool = True,
        fused: Mapping[str, str] | None = None,
    ) -> None:
        self.common = None if ckpt_path is None and networks else self.load(ckpt_path, "downstream.ckpt_path")
        self.own = {m: self.load(path, f"downstream.networks.{m}") for m, path in (networks or {}).items()}
        self.sources = sources
        self.folders = {name: {fold(p.stem): p for p in list_images(Path(f))} for name, f in (fused or {}).items()}
        self.results: dict[str, dict[str, float | None]] = {}
        self.collected: dict[str, Any] = {}

    @abstractmethod
    def load(self, ckpt_path: str | None, key: str) -> TaskTraining:
        """A trained network in evaluation mode; `key` names the path in messages."""

    def network(self, method: str) -> TaskTraining | None:
        """The network that looks at a method's images; None: there is none."""
        return self.own.get(method, self.common)

    def scores(self, network: TaskTraining) -> Scores:
        """Empty scores of what a network finds."""
        return network.scores()

    def check_data(self, datamodule: Any, part: str) -> None:  # noqa: B027 - not every task has something to refuse
        """Refuse data that the networks cannot be judged on, before anything is fused."""

    def callback(self, method: str) -> Callback:
        """What watches one method's evaluation."""
        return _Watch(self, method)

    def other_methods(self) -> list[str]:
        """Names of what `others` gives."""
        return [*(("Visible", "Infrared") if self.sources else ()), *self.folders]

    def others(self, batch: Any) -> dict[str, Tensor]:
        """Images `(B, 3, H, W)` in [0, 1] to score besides a method's: the sources, and other methods'."""
        images = {"Visible": batch["a"], "Infrared": batch["b"]} if self.sources else {}
        for method, files in self.folders.items():
            pairs = zip(batch["name"], batch["a"], strict=True)
            images[method] = torch.stack([_read(files, name, method, like) for name, like in pairs])
        return images

    def write(self, folder: Path) -> list[Path]:
        """Write `<task>.csv` with all scores and `<task>.md` with those of the papers' tables; a row per method."""
        rows = [{"method": method, **values} for method, values in self.results.items()]
        table = [
            [method, *(f"{values[name] * factor:.{digits}f}" for name, _, factor, digits in self.columns)]  # type: ignore[operator]
            for method, values in self.results.items()
        ]
        text = markdown(["method", *(heading for _, heading, _, _ in self.columns)], table)
        return [write_csv(folder / f"{self.task}.csv", rows), write_text(folder / f"{self.task}.md", text)]


class _Watch(Callback):
    def __init__(self, evaluation: DownstreamEvaluation, method: str) -> None:
        self.evaluation, self.method = evaluation, method
        self.with_others = not evaluation.results
        self.scores: dict[str, Scores] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the scores on every rank, also on one without images, because all of them meet in `compute`."""
        names = [self.method, *(self.evaluation.other_methods() if self.with_others else [])]
        self.evaluation.check_data(getattr(trainer, "datamodule", None), "test" if stage == "test" else "val")
        networks = {name: self.evaluation.network(name) for name in names}
        self.scores = {
            name: self.evaluation.scores(network) for name, network in networks.items() if network is not None
        }

    @torch.inference_mode()
    def _look(self, pl_module: LightningModule, output: Any, batch: Any) -> None:
        if not isinstance(output, FusionOutput):
            return
        images = {self.method: output.fused.expand(-1, 3, -1, -1)}
        if self.with_others:
            images |= self.evaluation.others(batch)
        for method, pictures in images.items():
            network = self.evaluation.network(method)
            if network is None:
                continue
            network.to(pl_module.device)
            self.scores[method].add(network.predict_images(pictures.float()), batch)

    def _finish(self) -> None:
        for method, scores in self.scores.items():
            self.evaluation.results[method] = scores.compute()
            self.evaluation.collected[method] = scores
        self.scores = {}

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._look(pl_module, outputs, batch)

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._look(pl_module, outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish()


def _read(files: Mapping[str, Path], name: str, method: str, like: Tensor) -> Tensor:
    path = files.get(fold(Path(name).name))
    if path is None:
        raise DataError(f"downstream.fused.{method} has no image named {name}: one per pair is needed")
    pixels = read_image(path).pixels
    if pixels.shape[-2:] != like.shape[-2:]:
        pixels = resize(pixels, like.shape[-2:])
    return pixels.to(like) / 255
