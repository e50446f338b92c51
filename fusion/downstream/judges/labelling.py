"""Label files of pairs that have none, by what released judges find in both sources."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torchvision.ops import batched_nms

from fusion.data.dataset import PairDataset
from fusion.data.files.boxes import write_voc_boxes
from fusion.data.files.image import write_image
from fusion.downstream.judges.coco import CocoDetector
from fusion.downstream.judges.segmenter import MFNetSegmenter
from fusion.errors import ConfigError, DataError
from fusion.job.config import instantiate
from fusion.models.inputs import image_batch

NMS = 0.5


def write_labels(datasets: Iterable[PairDataset], judge: Any, out: Path, score: float = 0.4) -> int:
    """Write a label file per pair, `NAME.xml` (VOC boxes, counted from 1) or `NAME.png` (class numbers).

    A detector looks at the visible and at the infrared image; its boxes of both are joined by non-maximum suppression. A
    segmenter looks at both together. Such labels say what the judge finds in the sources, not what is there.

    Args:
        datasets: whose pairs.
        judge: `CocoDetector` or `MFNetSegmenter`.
        out: folder to fill.
        score: least score of a box.

    Returns:
        Number of files.

    Raises:
        DataError: a pair cannot be read, a file cannot be written, or two pairs have one name.
    """
    names: set[str] = set()
    for dataset in datasets:
        for index in range(len(dataset)):
            sample = dataset.load(index)
            if sample["name"] in names:
                raise DataError(f"{out}: two pairs are named {sample['name']}; label the data sets one at a time.")
            names.add(sample["name"])
            _write(sample, judge, out, score)
    return len(names)


@torch.inference_mode()
def _write(sample: dict[str, Any], judge: Any, out: Path, score: float) -> None:
    a, b = (image_batch(sample[key]) for key in ("a", "b"))
    size = (a.shape[-2], a.shape[-1])
    if isinstance(judge, MFNetSegmenter):
        write_image(out / f"{sample['name']}.png", judge.segment_pair(a, b).to(torch.uint8))
        return
    detector: CocoDetector = judge
    found = [detector.detect(image)[0] for image in (a, b)]
    boxes, scores, labels = (torch.cat([item[key] for item in found]) for key in ("boxes", "scores", "labels"))
    kept = batched_nms(boxes, scores, labels, NMS)
    kept = kept[scores[kept] >= score]
    names = [detector.class_names[int(label)] for label in labels[kept]]
    write_voc_boxes(out / f"{sample['name']}.xml", size, boxes[kept], names)


def label_data(data: Any, config: Mapping[str, Any]) -> None:
    """Let a judge label one part of a data module and write the labels.

    Args:
        data: data module.
        config: `judge` (a detector or segmenter of this package), `part`, `out` and `score` of conf/data.yaml.

    Raises:
        ConfigError: no judge, no such part, or no folder to write to.
    """
    part = config["part"]
    if not config.get("judge"):
        raise ConfigError(
            "action=label: no judge; give judge=coco (boxes) or judge=mfnet (maps) with judge.weights=FILE"
        )
    if not data.parts.get(part):
        known = ", ".join(name for name, sets in data.parts.items() if sets)
        raise ConfigError(f"part={part}: this data has none; expected one of {known}")
    if not config["out"]:
        raise ConfigError("out: not given; expected a folder to write the labels to.")
    judge = instantiate(config["judge"])
    count = write_labels(data.parts[part].values(), judge, Path(config["out"]), config["score"])
    print(f"{count} label files are in {config['out']}: give it to the data set as label_dir")
