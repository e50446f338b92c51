"""How well a detector of source images does on fused ones (MoE-Fusion Table 3)."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fusion.analysis.tables import markdown, write_csv, write_text
from fusion.data.image import read_image, resize
from fusion.data.pairs import list_images
from fusion.downstream.detection.module import DetectorTraining, labels_of, load_detector
from fusion.downstream.detection.scores import DetectionScores
from fusion.errors import DataError
from fusion.models.output import FusionOutput


class DetectionEvaluation:
    """Detects objects in what methods fuse, and writes average precision per class at one IoU threshold.

    Used by `python -m fusion.evaluate downstream=detection`: each method gets a callback that looks at its fused
    images; sources and folders of other methods' images are scored along with the first.

    Args:
        ckpt_path: trained detector (`DetectorTraining`): checkpoint or run folder.
        iou: threshold.
        sources: also score the visible and the infrared images.
        fused: folders of other methods' fused images by method, named as the pairs.

    Raises:
        FusionError: no detector there, or no folder.
    """

    def __init__(
        self, ckpt_path: str, iou: float = 0.5, sources: bool = True, fused: Mapping[str, str] | None = None
    ) -> None:
        self.detector: DetectorTraining = load_detector(ckpt_path)
        self.iou, self.sources = iou, sources
        self.folders = {name: _by_stem(Path(folder)) for name, folder in (fused or {}).items()}
        self.results: dict[str, dict[str, float | None]] = {}
        DetectionScores(self.detector.class_names)  # says now, not after an hour, if it cannot

    def callback(self, method: str) -> Callback:
        """What watches one method's evaluation."""
        return _Watch(self, method)

    def scores(self) -> DetectionScores:
        """An empty score with the detector's classes."""
        return DetectionScores(self.detector.class_names, self.iou)

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
        """Write `detection.csv` and `detection.md`: a row per method, average precision in percent."""
        classes = [*self.detector.class_names, "mAP"]
        percent = {
            method: {name: None if values[name] is None else 100 * values[name] for name in classes}
            for method, values in self.results.items()
        }
        rows = [{"method": method, **values} for method, values in percent.items()]
        table = [[method, *(values[name] for name in classes)] for method, values in percent.items()]
        text = markdown(["method", *classes], table, decimals=2)
        return [write_csv(folder / "detection.csv", rows), write_text(folder / "detection.md", text)]


class _Watch(Callback):
    def __init__(self, evaluation: DetectionEvaluation, method: str) -> None:
        self.evaluation, self.method = evaluation, method
        self.with_others = not evaluation.results
        self.scores: dict[str, DetectionScores] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the scores on every rank, also on one without images."""
        names = [self.method, *(self.evaluation.other_methods() if self.with_others else [])]
        self.scores = {name: self.evaluation.scores() for name in names}

    @torch.inference_mode()
    def _look(self, pl_module: LightningModule, output: Any, batch: Any) -> None:
        if not isinstance(output, FusionOutput):
            return
        boxes, labels = labels_of(batch)
        detector = self.evaluation.detector.to(pl_module.device)
        images = {self.method: output.fused.expand(-1, 3, -1, -1)}
        if self.with_others:
            images |= self.evaluation.others(batch)
        for method, pictures in images.items():
            self.scores[method].update(detector.detect(pictures.float()), boxes, labels)

    def _finish(self) -> None:
        for method, scores in self.scores.items():
            self.evaluation.results[method] = scores.compute()
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


def _by_stem(folder: Path) -> dict[str, Path]:
    return {_fold(path.stem): path for path in list_images(folder)}


def _fold(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _read(files: Mapping[str, Path], name: str, method: str, like: Tensor) -> Tensor:
    path = files.get(_fold(Path(name).name))
    if path is None:
        raise DataError(f"downstream.fused.{method} has no image named {name}: one per pair is needed")
    pixels = read_image(path).pixels
    if pixels.shape[-2:] != like.shape[-2:]:
        pixels = resize(pixels, like.shape[-2:])
    return pixels.to(like) / 255
