"""Writing fused images to files."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from lightning import Callback, LightningModule, Trainer

from fusion.data.files.image import write_image
from fusion.models.output import FusionOutput


class PredictionWriter(Callback):
    """Writes every fused image of a test or prediction under the name of its pair, at the size of its sources.

    Args:
        dirpath: output folder; pictures of several data sets go to one folder per data set.
        suffix: format of the files, ".png" by default.
        keep_gray: write pairs of two grey files as grey files.
        deeper: writes a result in its own way, of files deeper than 8 bit, and returns whether it did; given the model, the batch,
            the place in it, height and width, and the file.
    """

    def __init__(
        self,
        dirpath: str,
        suffix: str = ".png",
        keep_gray: bool = True,
        deeper: Callable[[Any, Any, int, tuple[int, int], Path], bool] | None = None,
    ) -> None:
        self.dirpath = Path(dirpath)
        self.suffix = suffix
        self.keep_gray = keep_gray
        self.deeper = deeper

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._write(pl_module, outputs, batch)

    def on_predict_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._write(pl_module, outputs, batch)

    def _write(self, model: LightningModule, outputs: Any, batch: Any) -> None:
        if not isinstance(outputs, FusionOutput):
            return
        datasets = batch.get("dataset") or [None] * len(batch["name"])
        for index, (name, dataset) in enumerate(zip(batch["name"], datasets, strict=True)):
            fused = outputs.fused[index]
            if self.keep_gray and batch["a_is_gray"][index] and batch["b_is_gray"][index]:
                fused = fused.mean(0, keepdim=True)
            folder = self.dirpath / dataset if dataset else self.dirpath
            parts = [
                part for part in PurePosixPath(name).parts if part not in ("/", "..")
            ]  # names may hold sub-folders
            target = folder.joinpath(*parts[:-1], f"{parts[-1]}{self.suffix}")
            size = (fused.shape[-2], fused.shape[-1])
            if self.deeper is None or not self.deeper(model, batch, index, size, target):
                write_image(target, fused)
