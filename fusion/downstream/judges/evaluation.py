"""Setting 1 of T-OAR with released judges: no network is trained, none has seen a fused image, intervals over the pairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.downstream.detection.evaluation import DetectionEvaluation
from fusion.downstream.detection.resampled import ResampledDetectionScores
from fusion.downstream.evaluation import DownstreamEvaluation
from fusion.downstream.judges.coco import CocoDetector
from fusion.downstream.judges.segmenter import MFNetSegmenter
from fusion.downstream.segmentation.evaluation import SegmentationEvaluation
from fusion.downstream.segmentation.resampled import ResampledSegmentationScores
from fusion.files import markdown, write_csv, write_text
from fusion.metrics.bootstrap import differences


class _Judged(DownstreamEvaluation):
    """Tables with intervals, and each method's difference to the first one on the same resamples."""

    main: tuple[str, ...]
    classes: tuple[str, ...]

    def __init__(self, judge: Any, bootstrap: int = 1000, seed: int = 0, **shared: Any) -> None:
        self.judge, self.bootstrap, self.seed = judge, bootstrap, seed
        super().__init__(**shared)

    def load(self, ckpt_path: str | None, key: str) -> Any:
        """The judge, whatever the path: it is the same for all methods."""
        return self.judge

    def write(self, folder: Path) -> list[Path]:
        """Write `<task>.csv` (values and intervals, in percent), `<task>.md`, `<task>_images.csv` (each image's own scores, in
        [0, 1]) and `<task>_differences.csv`.
        """
        percent = {m: {k: None if v is None else 100 * v for k, v in row.items()} for m, row in self.results.items()}
        columns = [*self.classes, *self.main]
        table = [[method, *(_cell(row, name) for name in columns)] for method, row in percent.items()]
        drawn = {method: scores.samples for method, scores in self.collected.items()}
        compared = [row for name in self.main for row in differences(self.results, drawn, name)]
        for row in compared:
            row.update({key: None if row[key] is None else 100 * row[key] for key in ("difference", "low", "high")})
        rows = [{"method": method, **row} for method, row in percent.items()]
        paths = [
            write_csv(folder / f"{self.task}.csv", rows),
            write_text(folder / f"{self.task}.md", markdown(["method", *columns], table)),
        ]
        alone = [{"method": m, **row} for m, scores in self.collected.items() for row in scores.by_image()]
        if alone:
            paths.append(write_csv(folder / f"{self.task}_images.csv", alone))
        if compared:
            paths.append(write_csv(folder / f"{self.task}_differences.csv", compared))
        return paths


class CocoDetection(_Judged, DetectionEvaluation):
    """People, cars and other classes found by a released COCO detector, `downstream=coco_detection`.

    Args:
        judge: a `CocoDetector`.
        iou: threshold of the classes' values and of `mAP`.
        bootstrap: resamples of the test pairs for the intervals; 0: none.
        seed: of the resamples.
        shared: `sources` and `fused` of `DownstreamEvaluation`.
    """

    main = ("mAP50", "mAP50-95")

    def __init__(self, judge: CocoDetector, iou: float = 0.5, **shared: Any) -> None:
        self.classes = judge.class_names
        super().__init__(judge, iou=iou, **shared)

    def scores(self, network: Any) -> ResampledDetectionScores:  # type: ignore[override]
        """Empty scores with intervals."""
        return ResampledDetectionScores(network.class_names, self.iou, self.bootstrap, self.seed)


class MFNetSegmentation(_Judged, SegmentationEvaluation):
    """Nine classes of road scenes found by MFNet's released segmenter, `downstream=mfnet_segmentation`.

    Args:
        judge: an `MFNetSegmenter`.
        bootstrap, seed, shared: see `CocoDetection`.
    """

    main = ("mIoU", "pixel_accuracy")

    def __init__(self, judge: MFNetSegmenter, **shared: Any) -> None:
        self.classes = judge.class_names
        super().__init__(judge, **shared)

    def scores(self, network: Any) -> ResampledSegmentationScores:  # type: ignore[override]
        """Empty scores with intervals."""
        return ResampledSegmentationScores(network.class_names, self.bootstrap, self.seed)


def _cell(row: Mapping[str, float | None], name: str) -> str:
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "-"
    return f"{value:.1f}" if low is None or high is None else f"{value:.1f} [{low:.1f}, {high:.1f}]"
