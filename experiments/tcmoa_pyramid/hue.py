"""How far hues of fused multi-exposure pairs are from those of the exposure between, on training sequences of SICE.

    python experiments/tcmoa_pyramid/hue.py DATA tcmoa_pyramid tcmoa_pyramid+model.backbone.clipped=null average

DATA has SCIE, and SICE with the sequences that it is made of. A value is the mean of 1 - cos of the angle between the chroma of the
fused picture and that of the exposure between (mean luma nearest to 0.45), weighed by the latter's saturation, times 10^4; places
where it is clipped or black are left out. Models as in benchmarks.py.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmarks import build
from torch import Tensor

from fusion.api import compose
from fusion.data.files.image import read_image
from fusion.data.files.pairs import list_images
from fusion.job.config import instantiate
from fusion.layers.color import split_luma

BETWEEN = 0.45
PARTS = {"p1": "Dataset_Part1", "p2": "Dataset_Part2"}


def between(sequence: Path, size: torch.Size) -> Tensor:
    """The exposure whose mean luma is nearest to `BETWEEN`, `(1, 3, *size)` in [0, 1]."""
    pictures = (read_image(path).pixels[None].float() / 255 for path in list_images(sequence))
    reduced = [F.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1) for x in pictures]
    return min(reduced, key=lambda x: abs(float(split_luma(x)[0].mean()) - BETWEEN))


def hue_error(fused: Tensor, true: Tensor) -> float:
    """See above; of places of 4x4 pixels."""
    fused, true = (F.avg_pool2d(x, 4) for x in (fused, true))
    (bright_fused, chroma_fused), (bright, chroma) = split_luma(fused), split_luma(true)
    found, expected = (chroma_fused - 0.5) / (bright_fused + 0.05), (chroma - 0.5) / (bright + 0.05)
    known = (true.amax(1) < 0.95) & (bright[:, 0] > 0.08)
    weights = expected.norm(dim=1) * known
    return float((weights * (1 - F.cosine_similarity(found, expected, dim=1, eps=1e-4))).sum() / weights.sum())


def main() -> None:
    """Fuse, measure, print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    module = instantiate(compose("train", ["data=tcmoa_pyramid", f"paths.data_dir={arguments.data}"], "data"))
    pairs = module.parts["train"]["scie"]
    models = [build(text) for text in arguments.models]
    found: dict[str, list[float]] = {name: [] for name, _ in models}
    for index in range(len(pairs)):
        sample = pairs[index]
        part, number = str(sample["name"]).split("_")
        a, b = (torch.as_tensor(sample[side])[None] for side in ("a", "b"))
        true = between(arguments.data / "SICE" / PARTS[part] / str(int(number)), a.shape[-2:])
        for name, model in models:
            found[name].append(hue_error(model.fuse(a, b, task="mef").fused, true))
    for name, values in found.items():
        print(f"{name}: {1e4 * sum(values) / len(values):.0f} ({len(values)} pairs)", flush=True)


if __name__ == "__main__":
    main()
