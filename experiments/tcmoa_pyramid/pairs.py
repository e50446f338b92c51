"""Pairs to fit `vif` on: real ones of the training sets, changed as the cameras of other benchmarks would have taken them."""

import random
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.api import compose
from fusion.job.config import instantiate
from fusion.layers.box import box

SIZE = 300, 400
"""Height and width that larger pictures are cut to."""
ZOOMS = {"llvip": (0.25, 0.35, 0.45), "roadscene": (0.6, 0.8, 1.0), "msrs": (0.5, 0.8, 1.0)}
Pair = tuple[str, Tensor, Tensor]


def fitted(data: Path, seed: int) -> list[Pair]:
    """Name, visible and infrared `(1, 3, h, w)` in [0, 1] of the pairs of the training sets, MSRS's eight at three sizes."""
    random_ = random.Random(seed)
    return [
        pair
        for name, count in (("roadscene", 1), ("llvip", 1), ("msrs", 3))
        for copy in range(count)
        for pair in _drawn(data, "train", name, copy, random_)
    ]


def watched(data: Path, seed: int) -> list[Pair]:
    """The same of the pairs that are not trained on."""
    random_ = random.Random(seed)
    return [pair for name in ("llvip", "roadscene") for pair in _drawn(data, "val", name, 0, random_)]


def _drawn(data: Path, part: str, name: str, copy: int, random_: random.Random) -> Iterator[Pair]:
    overrides = ["data=tcmoa_pyramid", f"paths.data_dir={data}"]
    overrides += [f"data.train.{one}.cache=none" for one in ZOOMS]
    dataset = instantiate(compose("train", overrides, "data")).parts[part][name]
    for place in range(len(dataset)):
        sample = dataset[place]
        a, b = (torch.as_tensor(sample[side])[None] for side in ("a", "b"))
        a, b = (x.float() / 255 if x.dtype == torch.uint8 else x for x in (a, b))
        zoom = ZOOMS[name][copy] if name == "msrs" else random_.choice(ZOOMS[name])
        if zoom != 1:
            a, b = (F.interpolate(x, scale_factor=zoom, mode="area") for x in (a, b))
        height, width = a.shape[-2:]
        top, left = (random_.randint(0, max(0, have - want)) for have, want in zip((height, width), SIZE, strict=True))
        a, b = (x[..., top : top + SIZE[0], left : left + SIZE[1]] for x in (a, b))
        yield (f"{part}.{name}.{place}.{copy}", *_taken_otherwise(a, b, name == "roadscene", random_))


def _taken_otherwise(a: Tensor, b: Tensor, dull: bool, random_: random.Random) -> tuple[Tensor, Tensor]:
    """Contrast, brightness and sharpening of other cameras, infrared sometimes black-hot; `dull`: little visible contrast."""
    contrast = random_.uniform(1.1, 2.0) if dull else random_.uniform(0.9, 1.5)
    a = contrast * (a - a.mean()) + a.mean() * random_.uniform(0.75, 1.15)
    if random_.random() < 0.25:
        b = 1 - b
    b = random_.choice([0.3, 0.5, 0.8, 1.1, 1.4]) * (b - b.mean()) + random_.uniform(0.28, 0.55)
    a, b = (x + random_.uniform(0, most) * (x - box(x, 3)) for x, most in ((a, 0.6), (b, 0.9)))
    a, b = ((255 * x.clamp(0, 1)).round() / 255 for x in (a, b))
    return a, b
