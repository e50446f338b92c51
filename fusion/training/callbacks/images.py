"""Pictures of a few validation pairs, to look at while a model trains."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor
from torchvision.utils import make_grid, save_image

from fusion.files import atomic
from fusion.models.output import FusionOutput


class ImageLogger(Callback):
    """Writes one panel per validation: a row per pair with a, b, fused and the prompt maps of `a`.

    Args:
        dirpath: folder of the panels, in the run folder.
        pairs_per_task: rows per task.
        size: height and width that every picture is fitted into, in pixels.
        prompt_sites: how many prompt maps to show, spread over the sites.
        every_n_epochs: how often.
    """

    def __init__(
        self, dirpath: str, pairs_per_task: int = 2, size: int = 256, prompt_sites: int = 2, every_n_epochs: int = 1
    ) -> None:
        self.dirpath = Path(dirpath)
        self.pairs_per_task = pairs_per_task
        self.size = size
        self.prompt_sites = prompt_sites
        self.every_n_epochs = every_n_epochs
        self._rows: dict[str, list[list[Tensor]]] = {}

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking or trainer.current_epoch % self.every_n_epochs:
            return
        if not isinstance(outputs, FusionOutput):
            return
        rows = self._rows.setdefault(batch["task"], [])
        for index in range(min(len(batch["a"]), self.pairs_per_task - len(rows))):
            maps = [prompt[index : index + 1, :1] for prompt in self._spread(outputs.prompts)]
            pictures = [batch["a"][index, None], batch["b"][index, None], outputs.fused[index, None], *maps]
            rows.append([self._fit(picture) for picture in pictures])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rows = [row for task in sorted(self._rows) for row in self._rows[task]]
        self._rows = {}
        if not rows:
            return
        columns = max(len(row) for row in rows)
        blank = torch.ones(3, self.size, self.size)
        grid = make_grid([p for row in rows for p in row + [blank] * (columns - len(row))], nrow=columns, padding=4)
        path = self.dirpath / f"epoch_{trainer.current_epoch:04d}.png"
        with atomic(path) as temporary:
            save_image(grid, temporary, format="png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("val/panel", [str(path)], step=trainer.global_step)

    def _spread(self, prompts: list[Tensor]) -> list[Tensor]:
        if len(prompts) <= self.prompt_sites or self.prompt_sites < 2:
            return prompts[: self.prompt_sites]
        last = len(prompts) - 1
        return [prompts[round(index * last / (self.prompt_sites - 1))] for index in range(self.prompt_sites)]

    def _fit(self, picture: Tensor) -> Tensor:
        picture = picture.detach().float().clamp(0, 1)
        height, width = picture.shape[-2:]
        scale = self.size / max(height, width)
        fitted = (max(1, round(height * scale)), max(1, round(width * scale)))
        picture = F.interpolate(picture, fitted, mode="bilinear", antialias=True, align_corners=False)
        picture = picture[0].expand(3, -1, -1).clamp(0, 1)
        return F.pad(picture, (0, self.size - fitted[1], 0, self.size - fitted[0]), value=1.0).cpu()
