"""Detection on fused images (MoE-Fusion Table 3, T-OAR Tables 1-3)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.downstream.detection.module import DetectorTraining
from fusion.downstream.detection.scores import DetectionScores
from fusion.downstream.evaluation import DownstreamEvaluation
from fusion.downstream.labels import check_classes
from fusion.downstream.training import load_trained
from fusion.files import markdown, write_csv, write_text


class DetectionEvaluation(DownstreamEvaluation):
    """Detects objects in what methods fuse, and writes average precision per class and over all, see `DetectionScores`.

    Used by `python -m fusion.evaluate downstream=detection`.

    Args:
        ckpt_path: trained detector (`DetectorTraining`): checkpoint or run folder.
        iou: threshold of the classes' values and of `mAP`.
        shared: see `DownstreamEvaluation`; networks of their own must know the same classes.

    Raises:
        FusionError: no detector there, or no folder.
    """

    task = "detection"

    def __init__(self, ckpt_path: str | None = None, iou: float = 0.5, **shared: Any) -> None:
        self.iou = iou
        super().__init__(ckpt_path, **shared)
        detector: Any = self.common or next(iter(self.own.values()))
        self.class_names = detector.class_names
        self.scores(detector)  # says now, not after an hour, if it cannot

    def load(self, ckpt_path: str | None, key: str) -> DetectorTraining:
        """A trained detector."""
        return load_trained(ckpt_path, DetectorTraining, key, "moe_fusion/detector_flir")

    def check_data(self, datamodule: Any, part: str) -> None:
        """See `check_classes`."""
        check_classes(self.class_names, datamodule, part, "the detector")

    def scores(self, network: Any) -> DetectionScores:  # type: ignore[override]
        """An empty score with the detector's classes."""
        return DetectionScores(network.class_names, self.iou)

    def write(self, folder: Path) -> list[Path]:
        """Write `detection.csv` and `detection.md`: a row per method, average precision in percent."""
        columns = [*self.class_names, "mAP", "mAP50", "mAP50-95"]
        percent = {method: _percent(values, columns) for method, values in self.results.items()}
        rows = [{"method": method, **values} for method, values in percent.items()]
        table = [[method, *values.values()] for method, values in percent.items()]
        text = markdown(["method", *columns], table, decimals=2)
        return [write_csv(folder / "detection.csv", rows), write_text(folder / "detection.md", text)]


def _percent(values: Mapping[str, float | None], names: list[str]) -> dict[str, float | None]:
    return {name: None if (value := values[name]) is None else 100 * value for name in names}
