"""Pictures of a few validation pairs, to look at while a model trains."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer

from fusion.training.callbacks.sheet import PairRows, Row, write_sheet


class ImageLogger(PairRows):
    """Writes one panel per validation: a row per pair with a, b, fused and the prompt maps of `a`, with captions.

    Args:
        dirpath: folder of the panels, in the run folder.
        pairs_per_task: rows per task.
        size: longer side of every picture in pixels.
        prompt_sites: how many prompt maps to show, spread over the sites.
        every_n_epochs: how often.

    Attributes:
        latest: the rows of the last panel, for loggers.
    """

    def __init__(
        self, dirpath: str, pairs_per_task: int = 2, size: int = 256, prompt_sites: int = 2, every_n_epochs: int = 1
    ) -> None:
        super().__init__(pairs_per_task, size, prompt_sites)
        self.dirpath = Path(dirpath)
        self.every_n_epochs = every_n_epochs
        self.latest: list[Row] = []

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if trainer.current_epoch % self.every_n_epochs == 0:
            self._collect(trainer, pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.latest = self._take()
        if self.latest:
            write_sheet(self.latest, self.size, self.dirpath / f"epoch_{trainer.current_epoch:04d}.png")
