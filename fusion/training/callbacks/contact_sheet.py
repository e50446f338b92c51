"""One picture with the first pairs of every task, at the end of a test or validation."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer

from fusion.training.callbacks.sheet import PairRows, write_sheet


class ContactSheet(PairRows):
    """Writes one PNG at the end of a test or validation: a row per pair with a, b, fused and the prompts of `a`.

    Args:
        path: the PNG to write; of several processes the first writes the pairs that it has fused.
        pairs_per_task: rows per task, the first pairs of each.
        size: longer side of every picture in pixels.
        prompt_sites: how many prompt maps to show, spread over the sites.
    """

    def __init__(self, path: str, pairs_per_task: int = 4, size: int = 256, prompt_sites: int = 4) -> None:
        super().__init__(pairs_per_task, size, prompt_sites)
        self.path = Path(path)

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._collect(trainer, pl_module, outputs, batch)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._collect(trainer, pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()

    def _write(self) -> None:
        if rows := self._take():
            write_sheet(rows, self.size, self.path)
