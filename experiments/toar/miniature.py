"""Stage two of T-OAR end to end on miniature labelled sets, from task networks to scores, on a CPU.

    python experiments/toar/miniature.py OUT

Makes the sets (`miniature_scenes.py`), trains a detector, a segmentation and a saliency network on what the base network fuses,
then T-OAR against the three; each training is a command of `fusion.train` that is printed. Test scenes are then fused plainly and
as each task's instruction asks, and every task network looks at both: OUT/miniature.csv, OUT/miniature.md, OUT/miniature.png.
A second call uses the trainings that are finished and goes on.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from miniature_scenes import FMB_NUMBERS, make
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchvision.utils import make_grid

from fusion.api import compose, load_model
from fusion.data.files.image import write_image
from fusion.downstream.detection import DetectorTraining
from fusion.downstream.saliency import SaliencyTraining
from fusion.downstream.segmentation import SegmentationTraining
from fusion.downstream.tasks import FrozenTask
from fusion.downstream.training import load_trained
from fusion.files import markdown, write_csv, write_text
from fusion.job.config import check, instantiate
from fusion.train import main as train_door

TASKS = {  # experiment of the task's network, class of the module, the score that the paper reports
    "detection": ("toar/detector_m3fd", DetectorTraining, "mAP50-95"),
    "segmentation": ("toar/segmenter_fmb", SegmentationTraining, "mIoU"),
    "saliency": ("toar/saliency_vt5000", SaliencyTraining, "mean_f"),
}
SIZE = (64, 80)
SEEDS = (0, 1_000_000)
"""Of the scenes that the task networks are trained on, and of those that T-OAR is trained and judged on."""
COMMON = "trainer=cpu logger=csv data.num_workers=0 trainer.limit_val_batches=0 trainer.log_every_n_steps=5"
SMALL = {
    "detection": "model.detector.backbone=resnet18 model.detector.weights=null model.detector.frozen_stages=0 "
    "model.detector.norm=group model.detector.channels=32 model.detector.hidden=64 model.detector.anchors=[8,16,32,64,128] "
    "model.detector.proposals=[100,50] model.detector.rpn_samples=64 model.detector.roi_samples=64 "
    "data.train.m3fd.resize=null optimizer.lr=1e-3",
    "segmentation": "model/segmenter@model.network=small model.network.trunk=resnet10t model.network.width=32 "
    "data.crop_size=null data.zoom=null optimizer.lr=1e-3 model.head_lr=1 scheduler.warmup_steps=10",
    "saliency": "model.network.channels=16 model.network.weights=null model.sizes=[] model.size=null model.trunk_lr=1 "
    "data.train.vt5000.transform.crop_size=null data.train.vt5000.transform.border=null optimizer.lr=0.02",
}
STAGE_TWO = (
    "experiment=toar/short model/text_encoder=hashed data.train.m3fd.transform.resize=null data.train.fmb.transform.crop_size=null "
    "data.train.fmb.transform.zoom=null data.train.vt5000.transform.crop_size=null data.train.vt5000.transform.border=null "
    # Batches of the tasks alternate and the steps shrink to nothing: in few steps by turns, the last task would have the last word.
    "data._target_=fusion.data.FusionDataModule ~data.turn_epochs trainer.reload_dataloaders_every_n_epochs=0 "
    "scheduler=warmup_cosine scheduler.warmup_epochs=0 scheduler.min_lr=0"
)


def train(run: Path, arguments: str) -> Path:
    """Train as `python -m fusion.train` would, unless the run is there and finished."""
    if (run / "results.json").is_file():
        return run
    words = [
        *shlex.split(arguments),
        f"resume={run}" if (run / "checkpoints/last.ckpt").is_file() else f"run_dir={run}",
    ]
    print("python -m fusion.train " + shlex.join(words), flush=True)
    sys.argv = ["fusion/train.py", *words]
    try:
        train_door()
    except SystemExit as ended:
        if ended.code:
            raise
    return run


def split_of_m3fd(arguments: argparse.Namespace) -> str:
    """Training and test pairs of the set that is published without a split."""
    first = f"skip=0 data.train.m3fd.limit={arguments.train}"
    rest = f"skip={arguments.train} data.test.m3fd.limit={arguments.test}"
    both = f"data.train.m3fd.{first} data.train.m3fd.shuffle_seed=null data.test.m3fd.{rest} data.test.m3fd.shuffle_seed=null"
    return f"{both} data.val.m3fd=null"


def objects_of(task: str, batch: dict[str, Any]) -> Tensor:
    """Where the labelled objects are, `(B, H, W)` bool."""
    if task == "saliency":
        return batch["mask"] == 1
    if task == "segmentation":
        return torch.isin(batch["mask"], torch.tensor(FMB_NUMBERS) - 1)
    inside = torch.zeros(batch["a"].shape[0], *batch["a"].shape[-2:], dtype=torch.bool)
    for image, boxes in zip(inside, batch["boxes"], strict=True):
        for x0, y0, x1, y1 in boxes.round().int().tolist():
            image[y0:y1, x0:x1] = True
    return inside


def contrast(image: Tensor, inside: Tensor, ring: int = 4) -> float:
    """How far the color of the objects is from that of a ring of so many pixels around them; image `(B, 3, H, W)`."""
    grown = max_pool2d(inside[:, None].float(), 2 * ring + 1, 1, ring)[:, 0] > 0
    colors = [image.movedim(1, -1)[where].mean(0) for where in (inside, grown & ~inside)]
    return float((colors[0] - colors[1]).abs().mean())


class Measured:
    """What a task network makes of plain and tailored images."""

    def __init__(self, task: str, module: Any) -> None:
        self.task, self.module, self.frozen = task, module, FrozenTask(module)
        self.scores = {kind: module.scores() for kind in ("plain", "tailored")}
        self.loss: dict[str, list[float]] = {"plain": [], "tailored": []}
        self.change: dict[str, list[float]] = {"inside": [], "outside": [], "correlation": []}
        self.contrast: dict[str, list[float]] = {"plain": [], "tailored": []}

    def add(self, plain: Tensor, tailored: Tensor, batch: Any) -> None:
        """Look at one image, fused in both ways."""
        plain = plain.clone().requires_grad_()
        for kind, image in (("plain", plain), ("tailored", tailored)):
            torch.manual_seed(0)  # the detector samples proposals
            loss = torch.stack(list(self.frozen.losses(image, batch).values())).sum()
            self.loss[kind].append(float(loss.detach()))
            if kind == "plain":
                loss.backward()
            with torch.inference_mode():
                self.scores[kind].add(self.module.predict_images(image.detach()), batch)
                self.contrast[kind].append(contrast(image.detach(), objects_of(self.task, batch)))
        difference, inside = (tailored - plain.detach()).abs().mean(1), objects_of(self.task, batch)
        self.change["inside"].append(float(difference[inside].mean()))
        self.change["outside"].append(float(difference[~inside].mean()))
        pair = torch.stack([difference.flatten(), plain.grad.abs().mean(1).flatten()])  # type: ignore[union-attr]
        self.change["correlation"].append(float(torch.corrcoef(pair)[0, 1]))

    def row(self) -> dict[str, Any]:
        """Means over the images, and scores."""
        score = TASKS[self.task][2]
        values: dict[str, Any] = {"task": self.task, "images": len(self.loss["plain"])}
        for kind in ("plain", "tailored"):
            values[f"loss_{kind}"] = _mean(self.loss[kind])
        values["score"] = score
        for kind, scores in self.scores.items():
            values[f"score_{kind}"] = scores.compute()[score]
        inside, outside, correlation = (_mean(self.change[key]) for key in ("inside", "outside", "correlation"))
        return values | {
            "change_inside": inside,
            "change_outside": outside,
            "inside_to_outside": inside / max(outside, 1e-9),
            "correlation_with_gradient": correlation,
            "contrast_plain": _mean(self.contrast["plain"]),
            "contrast_tailored": _mean(self.contrast["tailored"]),
        }


def measure(data: Any, stage_two: Path, networks: dict[str, Path]) -> tuple[list[dict[str, Any]], Tensor]:
    """A row per task over the test pairs, and a picture: visible, infrared, plain, tailored, what changed (five times)."""
    model = load_model(ckpt_path=stage_two)
    measured = {
        task: Measured(task, load_trained(networks[task], kind, task, experiment))
        for task, (experiment, kind, _) in TASKS.items()
    }
    data.setup("test")
    tiles: list[Tensor] = []
    shown = dict.fromkeys(TASKS, 0)
    for batch in data.test_dataloader():
        batch = data.on_after_batch_transfer(batch, 0)
        task = model.instructions.task_of(batch["instruction"][0])
        with torch.inference_mode():
            plain, tailored = (
                model.fuse(batch["a"], batch["b"], instruction=text).fused.clone() for text in ("none", task)
            )
        plain, tailored = plain.clone(), tailored.clone()
        measured[task].add(plain, tailored, batch)
        if shown[task] < 3:
            shown[task] += 1
            change = 0.5 + 5 * (tailored - plain)
            tiles += [picture[0].clamp(0, 1) for picture in (batch["a"], batch["b"], plain, tailored, change)]
    return [item.row() for item in measured.values()], make_grid(torch.stack(tiles), nrow=5)


def main() -> None:
    """Make, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", default="toar_base", help="name or path of stage one's weights")
    parser.add_argument("--train", type=int, default=120, help="training scenes per set")
    parser.add_argument("--test", type=int, default=40, help="test scenes per set")
    parser.add_argument("--epochs", type=int, default=25, help="of the task networks")
    parser.add_argument(
        "--stage-two-epochs", type=int, default=20, help="of T-OAR, in which each has a third of the batches"
    )
    parser.add_argument("--lr", type=float, default=1e-3, help="of T-OAR")
    parser.add_argument("--more", default="", help="further settings of T-OAR's training, as on the command line")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    # On scenes that the task networks were trained on, the losses of T-OAR did not fall: it gets others.
    folders = [out / "data_networks", out / "data_stage_two"]
    for seed, folder in zip(SEEDS, folders, strict=True):
        if not folder.is_dir():
            make(folder, arguments.train, arguments.test, SIZE, seed)
    stage_zero, stage_two_data = (f"{COMMON} paths.data_dir={folder} data.batch_size=6" for folder in folders)
    networks = {}
    for task, (experiment, _, _) in TASKS.items():
        split = split_of_m3fd(arguments) if task == "detection" else ""
        networks[task] = train(
            out / task,
            f"experiment={experiment} {stage_zero} {SMALL[task]} {split} model.fuser.weights={arguments.base} "
            f"trainer.max_epochs={arguments.epochs}",
        )
    paths = " ".join(f"model.task_networks.{task}.ckpt_path={run}" for task, run in networks.items())
    second = f"{STAGE_TWO} {stage_two_data} {split_of_m3fd(arguments)} model.base_weights={arguments.base} {paths}"
    stage_two = train(
        out / "stage_two",
        f"{second} optimizer.lr={arguments.lr} trainer.max_epochs={arguments.stage_two_epochs} {arguments.more}",
    )
    data = instantiate(check(compose("train", shlex.split(second), "data")))
    rows, picture = measure(data, stage_two, networks)
    write_csv(out / "miniature.csv", rows)
    table = markdown(list(rows[0]), [list(row.values()) for row in rows], decimals=4)
    write_text(out / "miniature.md", table)
    write_image(out / "miniature.png", picture)
    print(table)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
