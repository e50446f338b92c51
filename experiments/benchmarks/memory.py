"""Memory and seams: what networks take per pixel, how far tiles are from the whole, and the peak of one large pair.

    python experiments/benchmarks/memory.py pixel                       # bytes per pixel, against the models' `bytes_per_pixel`
    python experiments/benchmarks/memory.py seams --height 1200 --width 1600
    python experiments/benchmarks/memory.py large --models tcmoa_pyramid toar_base  # peak of fusion.predict on 6000x4000

Every measurement runs in a process of its own and takes the highest resident memory of it. Pictures are scikit-image's photographs,
enlarged. Models without trained weights run with random ones.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data as photographs
from torch import Tensor

import fusion
from fusion.data.files.pairs import Pair
from fusion.files import markdown, write_csv, write_text
from fusion.inference.folders import fuse_jobs
from fusion.inference.targets import Job
from fusion.models.base import FusionModel

OPTIONS = {
    "task": "vif", "color": "auto", "depth": "keep", "keep_gray": True, "check_alignment": 0, "batch_size": "auto",
    "num_workers": 4, "range": "auto", "bands": "auto", "page": None, "match_size": None, "fit": "contain",
    "register": "none", "motion": "affine", "overlap": "keep",
}  # fmt: skip
"""Defaults of conf/predict.yaml."""
MODELS = ["average", "maximum", "laplacian", "guided_filter", "densefuse", "seafusion", "ifcnn", "toar_base", "gifnet",
          "moe_fusion_saliency", "tcmoa_tiny", "tcmoa_pyramid"]  # fmt: skip
GIB = 1 << 30


def pictures(height: int, width: int) -> tuple[Image.Image, Image.Image]:
    """A colour and a grey photograph of this size."""
    made = (Image.fromarray(photographs.astronaut()), Image.fromarray(photographs.camera()))
    a, b = (one.resize((width, height), Image.Resampling.BICUBIC) for one in made)
    return a, b


def tensors(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The same as `(1, 3, H, W)` in [0, 1]."""
    a, b = (np.asarray(one.convert("RGB"), np.float32) / 255 for one in pictures(height, width))
    return torch.from_numpy(a).permute(2, 0, 1)[None].contiguous(), torch.from_numpy(b).permute(2, 0, 1)[
        None
    ].contiguous()


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a forked process."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def build(name: str) -> FusionModel:
    """A model, with random weights where it has no others."""
    return fusion.load_model(name, allow_untrained=True)


def peak() -> int:
    """Highest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    """Resident memory of this process now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def grown(name: str, height: int, width: int) -> int:
    """Bytes by which a network's pass over one pair raises the peak."""
    model = build(name)
    a, b = tensors(height, width)
    before = resident()
    with torch.inference_mode():
        model._fuse_tensor(a, b, "vif")
    return peak() - before


def pixel(names: list[str], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Bytes per pixel by the difference of two sizes."""
    rows = []
    for name in names:
        small, large = (apart(grown, name, *size) for size in ((448, 448), (896, 672)))
        measured = (large - small) / (896 * 672 - 448 * 448)
        stated = build(name).bytes_per_pixel
        rows.append({"model": name, "measured bytes/pixel": round(measured), "stated": round(stated)})
        print(rows[-1], flush=True)
    return rows


def seam(name: str, height: int, width: int, limit: str, keep: Path | None) -> tuple[float, float, float]:
    """Largest and mean difference of tiles and whole in grey levels of 255, and seconds of both by the processor."""
    model = build(name)
    a, b = tensors(height, width)
    model.whole_pixels = 1 << 40
    whole = model.fuse(a, b, max_memory="500GiB").fused
    start = time.process_time()
    tiled = model.fuse(a, b, max_memory=limit).fused
    difference = (tiled - whole).abs() * 255
    if keep is not None:
        shown = torch.cat([tiled[0], whole[0], (difference[0] * 1000 / 255).clamp(0, 1)], dim=2)
        Image.fromarray((shown * 255).byte().permute(1, 2, 0).numpy()).save(keep / f"{name}.png")
    return float(difference.max()), float(difference.mean()), time.process_time() - start


def seams(names: list[str], given: argparse.Namespace) -> list[dict[str, Any]]:
    """How far tiles are from the whole."""
    rows = []
    for name in names:
        most, mean, seconds = apart(seam, name, given.height, given.width, given.max_memory, given.keep)
        rows.append({"model": name, "size": f"{given.width}x{given.height}", "max_memory": given.max_memory,
                     "largest (of 255)": f"{most:.1e}", "mean (of 255)": f"{mean:.1e}", "tiled, s": round(seconds, 1)})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def predicted(name: str, height: int, width: int, limit: str, folder: str) -> tuple[int, float]:
    """Peak of a process that runs `fusion.predict` on one pair, and its seconds."""
    paths = [Path(folder) / f"{side}.jpg" for side in "ab"]
    job = Job(Pair("large", *paths), Path(folder) / f"{name}.jpg")
    start = time.process_time()
    if failed := fuse_jobs(build(name), [job], OPTIONS | {"max_memory": limit}):
        raise RuntimeError(f"failed: {failed}")
    return peak(), time.process_time() - start


def large(names: list[str], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak of `fusion.predict` on one large pair."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        apart(store, given.height, given.width, folder)
        for name in names:
            most, seconds = apart(predicted, name, given.height, given.width, given.max_memory, folder)
            rows.append({"model": name, "size": f"{given.width}x{given.height}", "max_memory": given.max_memory,
                         "peak, GiB": round(most / GIB, 2), "processor, s": round(seconds)})  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def store(height: int, width: int, folder: str) -> None:
    """Write a pair of files."""
    for side, picture in zip("ab", pictures(height, width), strict=True):
        picture.save(Path(folder) / f"{side}.jpg", quality=95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pixel", "seams", "large"])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--height", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--max-memory")
    parser.add_argument(
        "--keep", type=Path, help="folder for pictures of the seams: tiles | whole | difference times 1000"
    )
    parser.add_argument("--out", type=Path, help="table, without ending")
    given = parser.parse_args()
    size = (4000, 6000) if given.what == "large" else (600, 800)
    given.height, given.width = given.height or size[0], given.width or size[1]
    given.max_memory = given.max_memory or ("auto" if given.what == "large" else "150MiB")
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    rows = {"pixel": pixel, "seams": seams, "large": large}[given.what](given.models, given)
    out = given.out or Path(f"experiments/benchmarks/memory_{given.what}")
    write_csv(out.with_suffix(".csv"), rows)
    write_text(out.with_suffix(".md"), markdown(list(rows[0]), [list(row.values()) for row in rows], 2))


if __name__ == "__main__":
    main()
