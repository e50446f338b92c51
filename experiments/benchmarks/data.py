"""How fast pairs are loaded, against the decoding that bounds it: pairs per second and core.

    python experiments/benchmarks/data.py DATA/LLVIP                        every decoder that is installed, then loaders
    python experiments/benchmarks/data.py DATA/LLVIP --workers 0 2 --rounds 5 --pairs 24 --json data.json

The bound is the time to read and decode the two JPEG files of a pair into uint8 on one thread, by each decoder. The loaders are
those of `FusionDataModule`: also crop, resize, flip, collate and, with workers, hand over between processes. Everything
is measured in turn within each round and the best round counts. What runs in this process is measured in processor
time, which other work on the machine disturbs little; what workers do in elapsed time, "per core" then means per worker.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image

from fusion.analysis.cost import describe_device
from fusion.data import LLVIP, FusionDataModule, read_image

Decoder = Callable[[Path], object]


def decoders() -> dict[str, Decoder]:
    """What is installed, by name; all decode to uint8 RGB (or gray where the file is)."""
    found: dict[str, Decoder] = {
        "Pillow": lambda path: np.asarray(Image.open(path)),
        "ours (read_image)": read_image,
    }
    if (io := _module("torchvision.io")) is not None and hasattr(io, "decode_image"):
        found["torchvision.io"] = lambda path: io.decode_image(torch.from_numpy(np.fromfile(path, np.uint8)))
    if (cv2 := _module("cv2")) is not None:
        cv2.setNumThreads(1)
        found["OpenCV"] = lambda path: cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if (turbojpeg := _module("turbojpeg")) is not None:
        decoder = turbojpeg.TurboJPEG()
        found["turbojpeg"] = lambda path: decoder.decode(path.read_bytes(), pixel_format=turbojpeg.TJPF_RGB)
    if (simplejpeg := _module("simplejpeg")) is not None:
        found["simplejpeg"] = lambda path: simplejpeg.decode_jpeg(path.read_bytes())
    kornia_rs = _module("kornia_rs")
    if (read := getattr(getattr(kornia_rs, "io", None), "read_image_jpegturbo", None)) is not None:
        found["kornia-rs"] = _kornia_reader(read)
    return found


def _kornia_reader(read: Callable[..., object]) -> Decoder:
    def decode(path: Path) -> object:
        try:
            return read(str(path), "rgb")
        except TypeError:  # versions without a mode
            return read(str(path))

    return decode


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except (ImportError, RuntimeError, OSError):  # RuntimeError: turbojpeg without its library
        return None


def loaders(root: Path, workers: list[int], args: argparse.Namespace) -> dict[str, Callable[[], float]]:
    """Functions that load `args.pairs` pairs once more and return the seconds they took, by name."""
    crops = {
        f"crop {args.crop} of the pixels": {"zoom": (1.0, 1.0)},
        f"TC-MoA: 81 to 100 % resized to {args.crop}": {},
    }
    made: dict[str, Callable[[], float]] = {}
    for crop, options in crops.items():
        for cache in ("none", "disk", "ram"):
            for count in workers if cache == "none" else workers[:1]:
                loader = _loader(root, cache, count, options, args)
                made[f"{crop}; cache={cache}; workers={count}"] = _timed(loader)
    return made


def _loader(root: Path, cache: str, workers: int, options: dict[str, Any], args: argparse.Namespace) -> Any:
    dataset = LLVIP(root, limit=args.images, cache=cache, cache_dir=args.cache_dir, labels=False)
    rounds = max(1, args.pairs // args.batch_size)
    data = FusionDataModule(
        {"llvip": dataset}, batch_size=args.batch_size, crop_size=args.crop, num_workers=workers, pin_memory=False,
        rounds_per_epoch=rounds, **options,
    )  # fmt: skip
    data.setup("fit")
    return data.train_dataloader()


def _timed(loader: Any) -> Callable[[], float]:
    def run() -> float:
        iterator = iter(loader)
        if loader.num_workers:
            next(iterator)  # the processes are up
        clock = time.perf_counter if loader.num_workers else time.process_time
        start, pairs = clock(), 0
        for batch in iterator:
            pairs += len(batch["name"])
        return (clock() - start) / max(1, pairs)

    return run


def measure(root: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of name, milliseconds per pair and core, pairs per second and core, and the ratio to our decoder."""
    pairs = LLVIP(root, limit=args.images, labels=False).pairs
    best: dict[str, float] = {}
    cores: dict[str, int] = {}
    decode = decoders()
    load = loaders(root, args.workers, args)
    for _ in range(args.rounds):
        for name, decoder in decode.items():
            start = time.process_time()
            for pair in pairs:
                decoder(pair.a)
                decoder(pair.b)
            seconds = (time.process_time() - start) / len(pairs)
            best[name] = min(best.get(name, seconds), seconds)
        for name, run in load.items():
            seconds = run()
            cores[name] = max(1, int(name.rsplit("=", 1)[1]))
            best[name] = min(best.get(name, seconds), seconds)
    bound = best["ours (read_image)"]
    return [
        {
            "what": name,
            "kind": "decode" if name in decode else "load",
            "ms per pair and core": 1e3 * seconds * cores.get(name, 1),
            "pairs/s per core": 1 / (seconds * cores.get(name, 1)),
            "share of the bound": bound / (seconds * cores.get(name, 1)),
        }
        for name, seconds in best.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of LLVIP as published")
    parser.add_argument("--pairs", type=int, default=32, help="pairs that every loader loads per round")
    parser.add_argument("--images", type=int, default=16, help="different pairs that are used")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--crop", type=int, default=448)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        args.cache_dir = folder
        rows = measure(args.root, args)
    about = {
        "device": describe_device(torch.device("cpu")),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print("| what | ms per pair and core | pairs/s per core | share of our decoder's bound |")
    print("|---|--:|--:|--:|")
    for row in rows:
        print(
            f"| {row['what']} | {row['ms per pair and core']:.1f} | {row['pairs/s per core']:.1f} "
            f"| {row['share of the bound']:.2f} |"
        )
    if args.json:
        args.json.write_text(json.dumps({**about, "rows": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
