"""Stage two of T-OAR judged by released networks on real labels: tailored against plain, seed by seed.

    python experiments/toar/real.py OUT --data DATA --detector FastestDet.pth --segmenter MFNet.pth RUN [RUN ...]

Fuses the MSRS test pairs plainly and as each task's instruction asks, with every RUN of `experiment=toar/real`; the released
detector looks for the people and cars of the boxes, the released segmenter for what it finds itself in both sources. Writes
OUT/TASK.csv (scores with 95% intervals), OUT/TASK_differences.csv (tailored minus plain on the same resamples of the pairs),
OUT/TASK.md and OUT/real.png. T-OAR computes in bfloat16, as in training, the judges in float32.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import make_grid

from fusion.api import load_model
from fusion.data import MSRS
from fusion.data.files.image import resize, write_image
from fusion.downstream.detection.resampled import ResampledDetectionScores
from fusion.downstream.judges import CocoDetector, FastestDet, MFNetSegmenter
from fusion.downstream.segmentation.resampled import ResampledSegmentationScores
from fusion.files import markdown, write_csv, write_text
from fusion.metrics.bootstrap import differences
from fusion.models.base import FusionModel

SHOWN = {"detection": ("People", "Car", "mAP50", "mAP50-95"), "segmentation": ("person", "car", "mIoU")}
COLUMNS = 256
"""Width of a tile of the picture."""


def judged(fusions: dict[str, Any], task: str, dataset: MSRS, judge: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores and resampled scores by method."""
    values, samples = {}, {}
    collected = {
        name: ResampledDetectionScores(judge.class_names)
        if task == "detection"
        else ResampledSegmentationScores(judge.class_names)
        for name in fusions
    }
    for index in range(len(dataset)):
        sample = dataset.load(index)
        a, b = (sample[key][None].float() / 255 for key in ("a", "b"))
        batch: dict[str, Any] = {"name": [sample["name"]], "dataset": [dataset.name]}
        if task == "detection":
            batch |= {key: [sample[key]] for key in ("boxes", "labels")}
        else:
            batch["mask"] = judge.segment_pair(a, b)
        for name, fuse in fusions.items():
            with torch.inference_mode():
                collected[name].add(judge.predict_images(fuse(a, b)), batch)  # type: ignore[arg-type]
    for name, scores in collected.items():
        values[name] = scores.compute()
        samples[name] = scores.samples
    return values, samples


def fusions_of(runs: dict[str, FusionModel], task: str) -> dict[str, Any]:
    """What to judge: the plain fusion first, then each run as the task asks, then the sources."""
    first = next(iter(runs.values()))
    chosen: dict[str, Any] = {"plain": lambda a, b: fused(first, a, b, "none")}
    for name, model in runs.items():
        chosen[f"tailored, {name}"] = lambda a, b, model=model: fused(model, a, b, task)
    return chosen | {"visible": lambda a, b: a, "infrared": lambda a, b: b}


def fused(model: FusionModel, a: torch.Tensor, b: torch.Tensor, instruction: str) -> torch.Tensor:
    """Fused `(1, 3, H, W)` in [0, 1], computed in bfloat16."""
    with torch.autocast(a.device.type, torch.bfloat16):
        return model.fuse(a, b, instruction=instruction).fused.clone()


def picture(runs: dict[str, FusionModel], dataset: MSRS, pairs: int = 4) -> torch.Tensor:
    """Rows of visible, infrared, plain, and tailored to detection and to segmentation by the first run."""
    model = next(iter(runs.values()))
    tiles = []
    for place in range(pairs):
        sample = dataset.load(place * len(dataset) // pairs)
        a, b = (sample[key][None].float() / 255 for key in ("a", "b"))
        made = [fused(model, a, b, text) for text in ("none", "detection", "segmentation")]
        height = COLUMNS * a.shape[-2] // a.shape[-1]
        tiles += [resize(image[0].clone(), (height, COLUMNS)).clamp(0, 1) for image in (a, b, *made)]
    return make_grid(torch.stack(tiles), nrow=5)


def main() -> None:
    """Judge, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", help="run folders or checkpoints of experiment=toar/real")
    parser.add_argument("--data", required=True, help="folder that holds MSRS")
    parser.add_argument("--detector", required=True, help="FastestDet's released weights")
    parser.add_argument("--segmenter", required=True, help="MFNet's released weights")
    parser.add_argument("--resize", type=int, nargs=2, help="height and width that the pairs are resized to")
    parser.add_argument("--task", action="append", choices=list(SHOWN), help="one of the two; default both")
    arguments = parser.parse_args()
    runs = {Path(run).name: load_model(ckpt_path=run) for run in arguments.runs}
    root = Path(arguments.data) / "MSRS"
    dataset = MSRS(root, "test", require_boxes=True, match_size="a", resize=arguments.resize)
    for task in arguments.task or SHOWN:
        make = {
            "detection": lambda: CocoDetector(FastestDet, arguments.detector),
            "segmentation": lambda: MFNetSegmenter(arguments.segmenter),
        }
        values, samples = judged(fusions_of(runs, task), task, dataset, make[task]())
        write_csv(arguments.out / f"{task}.csv", [{"method": method, **row} for method, row in values.items()])
        compared = [row for name in SHOWN[task] for row in differences(values, samples, name)]
        write_csv(arguments.out / f"{task}_differences.csv", compared)
        shown = [[method, *(_cell(row, name) for name in SHOWN[task])] for method, row in values.items()]
        text = f"{task}, {len(dataset)} pairs\n\n" + markdown(["", *SHOWN[task]], shown)
        write_text(arguments.out / f"{task}.md", text)
        print(text)
    write_image(arguments.out / "real.png", picture(runs, dataset))


def _cell(row: dict[str, Any], name: str) -> str:
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    return "-" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
