"""Ways to fuse more than two sources with a network made for two, measured on focus stacks and exposure brackets.

    python experiments/many_sources/measure.py DATA --ckpt gifnet=GIFNET ifcnn=IFCNN --out experiments/many_sources/scores.csv

Stacks are made from all-in-focus pictures (MFI-WHU/full_clear) with imagined depth and have a truth: PSNR and SSIM.
Brackets are SICE's (three exposures) and made ones (five): MEF-SSIM for any number of sources. Every scheme fuses every
scene in several orders; what changes with the order is the spread.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import resize

from fusion import load_model
from fusion.data.files.image import read_image
from fusion.data.synthesis.scenes import procedural_depth
from fusion.data.synthesis.stacks import exposure_bracket, focus_stack
from fusion.files import write_csv
from fusion.layers.color import split_luma
from fusion.metrics.full_reference import full_reference
from fusion.models.base import FusionModel
from fusion.models.many import by_brightness, evaluating, fold, pairs, run_scheme, tree

sys.path.insert(0, str(Path(__file__).parent))
from mef_ssim import mef_ssim

Two = Callable[[Tensor, Tensor], Tensor]
Scene = tuple[str, str, list[Tensor], Tensor | None]


def brightest_first(images: Sequence[Tensor]) -> list[Tensor]:
    """The sources by brightness."""
    return [images[i] for i in by_brightness(images)]


def neighbours(two: Two, images: Sequence[Tensor]) -> Tensor:
    """A tournament of neighbours."""
    left = list(images)
    while len(left) > 1:
        met = [two(left[i], left[i + 1]) for i in range(0, len(left) - 1, 2)]
        left = met + left[2 * len(met) :]
    return left[0]


RULES: dict[str, Callable[[Two, Sequence[Tensor], str], Tensor]] = {
    "fold, in the order given": lambda two, images, task: fold(two, images),
    "fold, brightest first": lambda two, images, task: fold(two, brightest_first(images)),
    "tree of neighbours, in the order given": lambda two, images, task: neighbours(two, images),
    "tree of neighbours, brightest first": lambda two, images, task: neighbours(two, brightest_first(images)),
    "tree, brightest with darkest": lambda two, images, task: tree(two, brightest_first(images)),
    "pairs, equal weights": lambda two, images, task: pairs(two, brightest_first(images), "mef"),
    "pairs, weights by detail": lambda two, images, task: pairs(two, brightest_first(images), "mff"),
}


def main() -> None:
    """Measure and write one row per model, kind of scene and rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["tcmoa_pyramid", "ifcnn", "tcmoa_tiny", "gifnet"])
    parser.add_argument("--ckpt", nargs="*", default=[], help="NAME=FILE of models without weights of their own")
    parser.add_argument("--scenes", type=int, default=2, help="of every kind")
    parser.add_argument("--orders", type=int, default=2)
    parser.add_argument("--side", type=int, default=112, help="shorter side of the pictures")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    files = dict(item.split("=", 1) for item in args.ckpt)
    scenes = list(made(args.data, args.scenes, args.side))
    rows: list[dict[str, object]] = []
    for name in args.models:
        model = load_model(name, ckpt_path=files.get(name))
        for rule in (*(["own"] if model.fuses_all else []), *RULES):
            for kind in dict.fromkeys(scene[0] for scene in scenes):
                row = measure(model, rule, [scene for scene in scenes if scene[0] == kind], args.orders)
                rows.append({"model": name, "scenes": kind, "rule": rule, "psnr": "", "ssim": "", "mef_ssim": ""} | row)
                print(rows[-1], flush=True)
        write_csv(args.out, rows, ["model", "scenes", "rule", "psnr", "ssim", "mef_ssim", "spread", "grey_levels"])


def made(data: Path, count: int, side: int) -> Iterator[Scene]:
    """Kind, task, sources in their natural order, and truth of every scene."""
    generator = torch.Generator().manual_seed(0)
    clear = sorted((data / "MFI-WHU/full_clear").glob("VOC*")) or sorted((data / "MFI-WHU/full_clear").iterdir())
    for path in clear[:count]:
        image = small(path, side)
        depth = procedural_depth(*image.shape[-2:], generator)
        depth = (depth - depth.min()) / (depth.max() - depth.min())
        yield "focus stack of 5", "mff", [frame[None] for frame in focus_stack(image, depth, 5)], image[None]
    for path in clear[count : 2 * count]:
        yield "made bracket of 5", "mef", [frame[None] for frame in exposure_bracket(small(path, side))], None
    folders = sorted((data / "SICE/Dataset_Part1").iterdir(), key=lambda folder: int(folder.name))
    for folder in folders[:count]:
        yield "SICE bracket of 3", "mef", [small(path, side)[None] for path in sorted(folder.iterdir())], None


def small(path: Path, side: int) -> Tensor:
    """A picture at a small size, float in [0, 1]."""
    return (resize(read_image(path).pixels, [side], antialias=True).float() / 255).clamp(0, 1)


def measure(model: FusionModel, rule: str, scenes: list[Scene], orders: int) -> dict[str, object]:
    """Mean scores over scenes and orders, and what the order changes."""
    scores: dict[str, list[float]] = {}
    spread: list[float] = []
    changes: list[float] = []
    for index, (_, task, sources, truth) in enumerate(scenes):
        draw = random.Random(index)
        tried = [list(sources), list(sources)[::-1]]
        tried += [draw.sample(list(sources), len(sources)) for _ in range(orders - 2)]
        if "given" not in rule and index:  # sorted: the first scene shows that the order is no matter
            tried = tried[-1:]
        results = [fuse(model, rule, images, task) for images in tried]
        found = [value(fused, sources, truth) for fused in results]
        for key in found[0]:
            scores.setdefault(key, []).append(statistics.mean(one[key] for one in found))
        first = next(iter(found[0]))
        spread.append(max(one[first] for one in found) - min(one[first] for one in found))
        changes.append(max(255 * float((fused - results[0]).abs().mean()) for fused in results))
    row: dict[str, object] = {key: round(statistics.mean(values), 4) for key, values in scores.items()}
    return row | {
        "spread": round(statistics.mean(spread), 4),
        "grey_levels": round(statistics.mean(changes), 3),
    }


def fuse(model: FusionModel, rule: str, images: list[Tensor], task: str) -> Tensor:
    """The result of one rule for one order of the sources."""
    if rule == "own":
        with evaluating(model):
            return run_scheme(model, images, task, "own", {}).fused.clamp(0, 1)
    return RULES[rule](lambda a, b: model.fuse(a, b, task).fused, images, task)


def value(fused: Tensor, sources: list[Tensor], truth: Tensor | None) -> dict[str, float]:
    """PSNR and SSIM to the truth, or MEF-SSIM."""
    if truth is not None:
        found = full_reference(fused, truth)
        return {"psnr": float(found["reference_psnr"][0]), "ssim": float(found["reference_ssim"][0])}
    luma = [255 * split_luma(x)[0][0, 0] for x in (*sources, fused.expand(-1, 3, -1, -1))]
    return {"mef_ssim": mef_ssim(luma[:-1], luma[-1])}


if __name__ == "__main__":
    main()
