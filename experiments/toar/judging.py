"""Released judges look at fused images of pairs: what `setting1.py` and `real.py` share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusion.data import MSRS
from fusion.data.sample import Sample
from fusion.downstream.detection.resampled import ResampledDetectionScores
from fusion.downstream.judges import CocoDetector, FastestDet, MFNetSegmenter, YOLOXNano
from fusion.downstream.segmentation.resampled import ResampledSegmentationScores
from fusion.files import markdown, write_csv, write_text
from fusion.metrics.bootstrap import differences

SHOWN = {"detection": ("People", "Car", "mAP50", "mAP50-95"), "segmentation": ("person", "car", "mIoU")}
"""Scores of the tables, by task."""
Fuse = Callable[[Sample, Tensor, Tensor], Tensor]
"""Fused `(1, 3, H, W)` of a sample, its visible and its infrared image, all in [0, 1]."""


class Looked(NamedTuple):
    """By method: `values` over all pairs, their resampled values, and a row per pair."""

    values: dict[str, dict[str, float | None]]
    samples: dict[str, Any]
    images: list[dict[str, Any]]


def judge_of(task: str, detector: str, segmenter: str) -> Any:
    """The released judge of a task: FastestDet, or YOLOX-Nano where its ONNX file is given; MFNet's segmenter."""
    if task == "segmentation":
        return MFNetSegmenter(segmenter)
    return CocoDetector(YOLOXNano if detector.endswith(".onnx") else FastestDet, detector)


def look(methods: Mapping[str, Fuse], task: str, dataset: MSRS, judge: Any) -> Looked:
    """Let a judge look at what every method makes of every pair.

    Detections are compared with the boxes of the pairs, class maps with what the judge sees in both sources together.
    """
    made = ResampledDetectionScores if task == "detection" else ResampledSegmentationScores
    collected = {name: made(judge.class_names) for name in methods}
    for index in range(len(dataset)):
        sample = dataset.load(index)
        a, b = (sample[key][None].float() / 255 for key in ("a", "b"))
        batch: dict[str, Any] = {"name": [sample["name"]]}
        if task == "detection":
            batch |= {key: [sample[key]] for key in ("boxes", "labels")}
        else:
            batch["mask"] = judge.segment_pair(a, b)
        for name, fuse in methods.items():
            with torch.inference_mode():
                collected[name].add(judge.predict_images(fuse(sample, a, b)), batch)  # type: ignore[arg-type]
    values = {name: scores.compute() for name, scores in collected.items()}
    rows = [{"method": name, **row} for name, scores in collected.items() for row in scores.by_image()]
    return Looked(values, {name: scores.samples for name, scores in collected.items()}, rows)


def write_looked(
    looked: Looked, task: str, pairs: int, out: Path, together: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Write `<task>.csv`, `<task>_images.csv`, `<task>_differences.csv` (to the first method) and `<task>.md`, and return that.

    `together` names means over methods, such as seeds, whose differences are written too.
    """
    write_csv(out / f"{task}.csv", [{"method": method, **_short(row)} for method, row in looked.values.items()])
    write_csv(out / f"{task}_images.csv", [_short(row) for row in looked.images])
    values, samples = _with_means(looked, SHOWN[task], together or {})
    compared = [row for name in SHOWN[task] for row in differences(values, samples, name)]
    write_csv(out / f"{task}_differences.csv", [_short(row) for row in compared])
    shown = [[method, *(_cell(row, name) for name in SHOWN[task])] for method, row in looked.values.items()]
    text = f"{task}, {pairs} pairs, percent\n\n" + markdown(["", *SHOWN[task]], shown)
    write_text(out / f"{task}.md", text)
    return text


def _with_means(looked: Looked, names: Sequence[str], together: Mapping[str, Sequence[str]]) -> tuple[Any, Any]:
    values, samples = dict(looked.values), dict(looked.samples)
    for title, methods in together.items():
        known = [name for name in names if all(looked.values[method].get(name) is not None for method in methods)]
        values[title] = {name: sum(looked.values[method][name] for method in methods) / len(methods) for name in known}
        samples[title] = {
            name: sum(looked.samples[method][name] for method in methods) / len(methods) for name in known
        }
    return values, samples


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}


def _cell(row: Mapping[str, float | None], name: str) -> str:
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None or low is None or high is None:
        return "-"
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
