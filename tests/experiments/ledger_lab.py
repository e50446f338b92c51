"""The ledger's commands at a tiny size: miniature data, untrained networks, one step, one pair."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import interpolate

from fusion.data.files.image import write_image
from fusion.data.files.selection import read_names

Run = Callable[..., tuple[int, str]]
SIZE = (112, 144)
PAIRS = {
    "LLVIP/visible/train": "LLVIP/infrared/train",
    "LLVIP/visible/test": "LLVIP/infrared/test",
    "TNO/vi": "TNO/ir",
    "VIFB/VI": "VIFB/IR",
    "RoadScene/crop_LR_visible": "RoadScene/cropinfrared",
    "GIFNet/visible/train": "GIFNet/infrared/train",
    "GIFNet/visible_focus_far/train": "GIFNet/visible_focus_near/train",
    "M3FD/Vis": "M3FD/Ir",
}
COUNTS = {"RoadScene": 5, "M3FD": 4}  # the parts that are drawn from these sets need a pair each
UNTRAINED = "allow_untrained=true"
ONE_STEP = [
    "trainer.fast_dev_run=true", "trainer.accelerator=cpu", "trainer.precision=32-true", "logger=none", "data.num_workers=0",
]  # fmt: skip
TCMOA = ["model/backbone=mae_tiny", "model.backbone.weights=null", "data.batch_size=1", "data.crop_size=112"]
MOE = [
    "model/moe_fusion/attention@model.attention=detector_small", "data.batch_size=1", "data.crop_size=128",
    "data.hflip=0",
]  # fmt: skip
BY_EXPERIMENT = {  # of the training of an experiment, by the longest name that fits
    "tcmoa": TCMOA,
    "tcmoa_tiny": ["data.batch_size=1", "data.crop_size=112", "model.backbone.weights=null"],
    "moe_fusion": MOE,
    "moe_fusion/small": ["data.batch_size=1", "data.crop_size=64"],  # saliency in place of detectors
    "gifnet": ["data.batch_size=1", "data.crop_size=64", "model/loss/weighting=fixed"],
    "toar_stage1": ["data.batch_size=1", "data.crop_size=64"],
    "toar/base_small": ["data.batch_size=1", "data.train.llvip.resize=null"],
}
NOT_RUN = {
    "downstream": "a trained network for the task, or a judge that is fetched",
    "action=label": "a judge that is fetched",
    "experiment=moe_fusion/real": "boxes of MSRS; tests/moe_fusion trains on boxes",
    "experiment=moe_fusion/detector": "ImageNet weights that are fetched; tests/downstream trains a small one",
    "experiment=toar/segmenter": "ImageNet weights that are fetched; tests/toar trains a small one",
    "experiment=toar/real": "networks trained for the tasks; tests/toar trains small ones",
    "experiment=toar/tailored": "judges that are fetched; tests/toar trains small ones",
    "experiment=toar/abl": "networks trained for the tasks; tests/toar trains small ones",
    "experiment=toar_stage2": "networks trained for the tasks; tests/toar trains small ones",
    "python experiments/": "scripts with settings of their own",
}
"""Commands that are only composed, by a part of their text, and what they need."""


def why_not(command: str) -> str | None:
    """What a command needs that is not here; None if it runs."""
    return next((reason for part, reason in NOT_RUN.items() if part in command), None)


def short_name(command: str) -> str:
    """A command as the name of a test."""
    return re.sub(r"[^\w=./-]+", " ", command.removeprefix("python -m fusion."))[:70]


def write_data(folder: Path) -> Path:
    """Data folder with one or two pairs of every set that the commands name, and a folder of pairs `a`, `b`."""
    generator = torch.Generator().manual_seed(0)

    def picture() -> torch.Tensor:
        coarse = torch.rand(1, 3, 9, 12, generator=generator)
        return interpolate(coarse, SIZE, mode="bicubic")[0].clamp(0, 1)

    for first, second in PAIRS.items():
        for index in range(COUNTS.get(first.split("/")[0], 2)):
            name = f"FLIR_{index}.jpg" if first.startswith("RoadScene") else f"{index:06d}.png"
            write_image(folder / first / name, picture())
            write_image(folder / second / name, picture())
    for name in ("SCIE/oe", "SCIE/ue", "RealMFF/imageA", "RealMFF/imageB"):
        end = f"_{name[-1]}.png" if name.startswith("RealMFF") else ".jpg"
        write_image(folder / name / f"p1_001{end}", picture())
    for index in range(COUNTS["M3FD"]):
        write_boxes(folder / "M3FD" / "Annotation" / f"{index:06d}.xml", "People")
    images = folder / "FLIR" / "align" / "JPEGImages"
    for index in range(2):
        write_image(images / f"FLIR_{index:05d}_RGB.jpg", picture())
        write_image(images / f"FLIR_{index:05d}_PreviewData.jpeg", picture())
        write_boxes(images.parent / "Annotations" / f"FLIR_{index:05d}_PreviewData.xml", "person")
    (images.parent / "align_train.txt").write_text("FLIR_00000_PreviewData\n")
    (images.parent / "align_validation.txt").write_text("FLIR_00001_PreviewData\n")
    for name, scenes in (("MEFB", ["scene", *read_names("mefb_heldout")]), ("MFIF", ["scene"])):
        for scene in scenes:
            write_image(folder / name / "input" / scene / f"{scene}_A.png", picture())
            write_image(folder / name / "input" / scene / f"{scene}_B.png", picture())
    for side in "ab":
        write_image(folder / "pairs" / side / "0.png", picture())
    return folder


def write_boxes(path: Path, name: str) -> None:
    """One box in the form of VOC."""
    box = "<bndbox><xmin>21</xmin><ymin>11</ymin><xmax>61</xmax><ymax>71</ymax></bndbox>"
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{size}<object><name>{name}</name><difficult>0</difficult>{box}</object></annotation>")


class Lab:
    """Runs commands of the ledger in this process; runs that they take are made when one is first asked for.

    Args:
        door: runs a command.
        data: of `write_data`.
        out: folder of all results.
    """

    def __init__(self, door: Run, data: Path, out: Path) -> None:
        self.door, self.data, self.out = door, data, out
        self.made: dict[str, Path] = {}
        self.count = 0

    def run(self, command: str) -> None:
        """Run a command.

        Raises:
            AssertionError: it failed; with what it printed.
        """
        words = shlex.split(command)
        root, arguments = words[2].removeprefix("fusion."), words[3:]
        status, said = self.door(root, *self._filled(root, arguments))
        assert status == 0, f"{command}\n{said[-3000:]}"

    def _filled(self, root: str, arguments: list[str]) -> list[str]:
        """The arguments with folders in the places of words, and what makes them small."""
        text = " ".join(arguments)
        names = {
            "SWEEP_FOLDER": "sweep",
            "RUN/checkpoints/last.ckpt": "checkpoint",
            "RUN": "run",
            "Final.model": "checkpoint",
        }
        filled = []
        for argument in arguments:
            key, _, value = argument.partition("=")
            if value in names:
                argument = f"{key}={self._run_for(text, names[value])}"
            elif key.removeprefix("+").split(".")[0] in ("a", "b") and value == "DIR":
                argument = f"{key}={self.data / 'pairs' / key}"
            elif key == "record":
                argument = f"record={self.out / 'measured.csv'}"
            elif key == "out":
                argument = f"out={self.out / 'out' / value}"
            elif key.startswith("+fused."):
                argument = f"{key}={self.data / 'pairs' / 'a'}"
            filled.append(argument)
        return [*filled, *self._small(root, text)]

    def _small(self, root: str, text: str) -> list[str]:
        self.count += 1
        place = self.out / f"{self.count}_{root}"
        data = [f"paths.data_dir={self.data}", f"paths.log_dir={place}"]
        model = [line for line in of_experiment(text) if line.startswith(("model/", "model."))]
        if root == "train":
            small = of_experiment(text)
            if re.search(r"experiment=\S+,", text):  # groups of these experiments are known only in the jobs
                small = [re.sub(r"^(model/[^=]+)=(.+)$", r"\1=choice(\2)", line) for line in small]
            return [*data, *ONE_STEP, *small, *(["hydra.sweeper.max_jobs=1"] if "-m" in text.split() else [])]
        if root == "evaluate":
            named = re.search(r"data=([a-z]+)", text)
            sets = [named[1]] if named else []
            sets = ["tno", "vifb", "mefb", "mfif"] if sets == ["tiny"] else sets
            sets += ["m3fd"] if "experiment=moe_fusion" in text else []
            kept = [f"data.test.{name}.limit=1" for name in sets]
            return [*data, *model, *kept, "data.num_workers=0", "logger=none", "trainer=cpu", UNTRAINED]
        if "kind=sweep" in text or "kind=gates" in text:
            return [f"run_dir={place}"]
        if root == "analyze":
            shown = ["pairs_per_task=1"] if "pairs_per_task" not in text else []
            return [*data, *model, *shown, "max_side=112", "data.num_workers=0"]
        if root == "benchmark":
            return ["model/backbone=mae_tiny", "model.backbone.weights=null", "size=[112,112]", f"run_dir={place}"]
        return {"score": ["workers=1", "plot=null"], "predict": [UNTRAINED]}.get(root, [])

    def _run_for(self, text: str, kind: str) -> Path:
        """A run or a sweep of the model that a command is about."""
        named = re.search(r"experiment=([\w/]+)", text)
        model = named[1] if named else "gifnet" if "kind=gates" in text or "model=gifnet" in text else "tcmoa_tiny"
        if model not in self.made:
            self.made[model] = self._make(model)
        run = self.made[model] / "0"
        return {"sweep": run.parent, "run": run, "checkpoint": run / "checkpoints" / "last.ckpt"}[kind]

    def _make(self, model: str) -> Path:
        folder = self.out / f"made_{model.replace('/', '_')}"
        which = [f"experiment={model}", *of_experiment(f"experiment={model}")]
        if model == "tcmoa_tiny":
            which = ["model=tcmoa_tiny", "data=llvip", "data.crop_size=112", "data.batch_size=1"]
        steps = ["trainer.max_epochs=1", "data.rounds_per_epoch=1", "trainer.limit_val_batches=1", "logger=csv"]
        steps += ["trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.log_every_n_steps=1"]
        steps += ["data.num_workers=0", "callbacks.images=null", "callbacks.ema=null"]
        given = [f"paths.data_dir={self.data}", "seed=0,1", f"hydra.sweep.dir={folder}"]
        status, said = self.door("train", "-m", *which, *steps, *given)
        assert status == 0, said[-3000:]
        return folder


def of_experiment(text: str) -> list[str]:
    """What makes an experiment small."""
    name = re.search(r"experiment=([\w/]+)", text)
    if name is None:
        return []
    found = max((key for key in BY_EXPERIMENT if name[1].startswith(key)), key=len, default=None)
    return BY_EXPERIMENT[found] if found else []
