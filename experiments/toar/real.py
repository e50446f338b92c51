"""Stage two of T-OAR judged by released networks on real labels: tailored against plain, seed by seed.

    python experiments/toar/real.py OUT --data DATA --detector FastestDet.pth --segmenter MFNet.pth RUN [RUN ...]

Fuses MSRS test pairs plainly and as each task's instruction asks, with every RUN of `experiment=toar/tailored` or `toar/real`; the
released detector looks for the people and cars of the boxes of those pairs that have some, the released segmenter on all pairs for
what it finds itself in both sources. Each also looks at what the other task's instruction makes.
Writes what `judging.write_looked` says (differences are tailored minus plain on the same resamples of the pairs), OUT/losses.csv
(the judges' losses, which is what stage two lowers), OUT/instructions.csv (how far sentences change the image, and from one
another, by the first run) and OUT/real.png. All computes in float32, as in use. --detector yolox_nano.onnx asks a detector that no
training has seen.
"""

import argparse
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.utils import make_grid

sys.path.insert(0, str(Path(__file__).parent))
from judging import SHOWN, Fuse, judge_of, look, write_looked

from fusion.api import load_model
from fusion.data import MSRS
from fusion.data.files.image import resize, write_image
from fusion.files import markdown, write_csv
from fusion.models.base import FusionModel

COLUMNS = 320
"""Width of a tile of the picture."""
ASKED = {  # sentences by the task they mean; the last of each were not trained on
    "detection": (
        "object detection task",
        "find the people",
        "find all pedestrians",
        "show me the persons and vehicles",
    ),
    "segmentation": (
        "semantic segmentation task",
        "label every pixel with its class",
        "segment this road scene for me",
    ),
    "unknown": ("make it look like a banana",),
}


class Fused:
    """Remembers what a model made of a pair, since several judges look at it."""

    def __init__(self, model: FusionModel, instruction: str, folder: Path) -> None:
        self.model, self.instruction, self.folder = model, instruction, folder

    def __call__(self, sample: Any, a: Tensor, b: Tensor) -> Tensor:
        """Fused `(1, 3, H, W)` in [0, 1], of 8 bits as a file has them."""
        path = self.folder / f"{sample['name']}.pt"
        if not path.is_file():
            made = self.model.fuse(a, b, instruction=self.instruction).fused
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save((made.clamp(0, 1) * 255).round().to(torch.uint8), path)
        return torch.load(path, weights_only=True).float() / 255


def fusions_of(runs: Mapping[str, FusionModel], task: str, kept: Path) -> dict[str, Fuse]:
    """What to judge: the plain fusion first, then each run as the task asks and as the other one does, then the sources."""
    first = next(iter(runs.values()))
    chosen: dict[str, Fuse] = {"plain": Fused(first, "none", kept / "plain")}
    for name, model in runs.items():
        chosen[f"tailored, {name}"] = Fused(model, task, kept / f"{name}-{task}")
    (other,) = (known for known in SHOWN if known != task)
    for name, model in runs.items():
        if other in model.instructions.sentences:
            chosen[f"for {other}, {name}"] = Fused(model, other, kept / f"{name}-{other}")
    return chosen | {"visible": lambda sample, a, b: a, "infrared": lambda sample, a, b: b}


def losses(methods: Mapping[str, Fuse], task: str, dataset: MSRS, judge: Any) -> list[dict[str, Any]]:
    """Mean loss of the judge over the pairs, by method: what stage two was trained to lower."""
    total: dict[str, list[float]] = {name: [] for name in methods}
    for index in range(len(dataset)):
        sample = dataset.load(index)
        a, b = (sample[key][None].float() / 255 for key in ("a", "b"))
        batch = {"name": [sample["name"]]}
        if task == "segmentation":
            batch["mask"] = judge.segment_pair(a, b)
        else:
            batch |= {"boxes": [sample["boxes"]], "labels": [sample["labels"]]}
        for name, fuse in methods.items():
            with torch.inference_mode():
                terms = judge.image_losses(fuse(sample, a, b), batch)
            total[name].append(float(torch.stack(list(terms.values())).sum()))
    return [{"task": task, "method": name, "loss": sum(values) / len(values)} for name, values in total.items()]


def instructions(runs: Mapping[str, FusionModel], dataset: MSRS, pairs: int = 2) -> list[dict[str, Any]]:
    """Mean absolute difference, in grey levels of 255, of what each sentence makes to the plain image and to each task's own."""
    rows = []
    samples = [dataset.load(place * len(dataset) // pairs) for place in range(pairs)]
    inputs = [tuple(sample[key][None].float() / 255 for key in ("a", "b")) for sample in samples]
    for name, model in runs.items():
        tasks = {
            task: texts for task, texts in ASKED.items() if task == "unknown" or task in model.instructions.sentences
        }
        texts = ["none", *(text for group in tasks.values() for text in group)]
        made: dict[str, Tensor] = {}
        for text in texts:
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a sentence is unknown is in the table
                made[text] = torch.cat(
                    [255 * model.fuse(a, b, instruction=text).fused.float().flatten() for a, b in inputs]
                )
        own = {"plain": "none"} | {task: group[0] for task, group in tasks.items() if task != "unknown"}
        for task, group in tasks.items():
            for text in group:
                far = {f"to {kind}": float((made[text] - made[other]).abs().mean()) for kind, other in own.items()}
                rows.append({"run": name, "means": task, "instruction": text, **far})
    return rows


def picture(dataset: MSRS, shown: Mapping[str, Fuse], pairs: int = 4) -> Tensor:
    """A row per pair: visible, infrared, plain, and tailored to detection and to segmentation by the first run."""
    tiles = []
    for place in range(pairs):
        sample = dataset.load(place * len(dataset) // pairs)
        a, b = (sample[key][None].float() / 255 for key in ("a", "b"))
        height = COLUMNS * a.shape[-2] // a.shape[-1]
        made = (a, b, *(fuse(sample, a, b) for fuse in shown.values()))
        tiles += [resize(image[0].clone(), (height, COLUMNS)).clamp(0, 1) for image in made]
    return make_grid(torch.stack(tiles), nrow=len(shown) + 2)


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
    parser.add_argument("--boxed", action="store_true", help="segmentation on the pairs that have boxes only")
    parser.add_argument("--kept", type=Path, help="folder for the fused images; default OUT/fused")
    arguments = parser.parse_args()
    runs = {Path(run).name: load_model(ckpt_path=run) for run in arguments.runs}
    root = Path(arguments.data) / "MSRS"
    options: dict[str, Any] = {"labels": False, "match_size": "a", "resize": arguments.resize}
    dataset = MSRS(root, "test", require_boxes=True, **options)
    pairs = {"detection": dataset, "segmentation": dataset if arguments.boxed else MSRS(root, "test", **options)}
    tasks, lost = arguments.task or list(SHOWN), []
    together = {"mean of the tailored": [f"tailored, {name}" for name in runs]}
    by_task = {task: fusions_of(runs, task, arguments.kept or arguments.out / "fused") for task in tasks}
    for task, methods in by_task.items():
        judge = judge_of(task, arguments.detector, arguments.segmenter)
        looked = look(methods, task, pairs[task], judge)
        print(write_looked(looked, task, len(pairs[task]), arguments.out, together), flush=True)
        if task == "segmentation" or not arguments.detector.endswith(".onnx"):  # that one has no loss
            lost += losses(methods, task, pairs[task], judge)
    if not lost:  # another detector's word, nothing else
        return
    write_csv(arguments.out / "losses.csv", lost)
    first = f"tailored, {next(iter(runs))}"
    plain = next(iter(by_task.values()))["plain"]
    shown = {"plain": plain} | {task: methods[first] for task, methods in by_task.items()}
    write_image(arguments.out / "real.png", picture(dataset, shown))
    rows = instructions(dict([next(iter(runs.items()))]), dataset)
    write_csv(arguments.out / "instructions.csv", rows)
    for table in (lost, rows):
        print(markdown(list(table[0]), [list(row.values()) for row in table], decimals=3))


if __name__ == "__main__":
    main()
