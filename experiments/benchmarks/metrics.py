"""Seconds per 640 x 480 RGB triple of every metric and suite, beside the original toolboxes and Python peers.

    python experiments/benchmarks/metrics.py                     # one core, then two, then the GPU if there is one
    python experiments/benchmarks/metrics.py --threads 1 --out metrics.json
    python experiments/benchmarks/metrics.py --ivif-zoo DIR      # also time a clone of RollingPlain/IVIF_ZOO

Every number is the median of `--repeats` runs after one warm-up. Each metric runs alone, so it also pays for what it
shares with others in a suite.
"""

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

import fusion
from fusion.config import config_dir
from fusion.metrics import Suite, compute, names

HEIGHT, WIDTH = 480, 640
# Seconds of the unmodified toolboxes in GNU Octave 7.3 on a loaded core, same size; VIFB on RGB, the others grey
OCTAVE = {
    "mefb": {"ag": 0.03, "ce": 7.8, "ei": 6.6, "en": 4.4, "nmi": 7.5, "psnr": 0.011, "qabf": 48, "qc": 0.2, "qcb": 2.8,
             "qcv": 0.71, "qncie": 11, "qp": 7, "qw": 0.72, "qy": 0.26, "sd": 0.008, "sf": 3, "te": 7.9, "viff": 0.61},
    "vifb": {"ag": 0.086, "ce": 25, "ei": 20, "en": 13, "mi": 42, "psnr": 0.1, "qabf": 198, "qcb": 6.3, "qcv": 1.9,
             "rmse": 0.017, "sf": 8.3, "ssim": 0.69, "sd": 0.014},
    "liu": {"nmi": 6.5, "te": 7.8, "te_nava": 24, "qncie": 10, "qg": 0.22, "qm": 0.043, "qsf": 15, "qp": 7.7,
            "qs": 0.32, "qw": 0.3, "qc": 0.12, "qy": 0.18, "qcv": 0.81, "qcb": 2.6},
    "tang": {"en": 0.03, "mi": 6.2, "psnr": 0.03, "mse": 0.013, "sf": 0.015, "sd": 0.01, "vif": 0.73, "ag": 0.066,
             "cc": 0.051, "scd": 0.044, "qabf": 61, "ssim": 0.46, "nabf": 135, "ms_ssim": 91, "fmi_pixel": 235},
}  # fmt: skip


def triple() -> list[torch.Tensor]:
    """Sources with texture at every scale and their mean, uint8 `(1, 3, H, W)`."""
    generator = torch.Generator().manual_seed(0)

    def texture() -> torch.Tensor:
        image = torch.zeros(1, 3, HEIGHT, WIDTH)
        for scale in (4, 8, 16, 32, 64):
            noise = torch.rand(1, 3, HEIGHT // scale, WIDTH // scale, generator=generator)
            image += torch.nn.functional.interpolate(noise, (HEIGHT, WIDTH), mode="bicubic") * scale
        low, high = image.aminmax()
        return ((image - low) / (high - low) * 255).round().byte()

    a, b = texture(), texture()
    return [a, b, ((a.int() + b.int()) // 2).byte()]


def seconds(run: Callable[[], Any], repeats: int, device: str) -> float:
    """Median wall time of `run`."""
    times = []
    for i in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        if i:
            times.append(time.perf_counter() - start)
    return median(times)


def suites() -> dict[str, list[str]]:
    """The columns of every suite in conf/metrics."""
    files = sorted((config_dir() / "metrics").glob("*.yaml"))
    plain = [OmegaConf.to_container(OmegaConf.load(file)) for file in files]
    return {suite.name: suite.keys for suite in (Suite.from_config(config) for config in plain)}


def ours(images: list[torch.Tensor], repeats: int, device: str) -> dict[str, float]:
    """Seconds of every metric in every convention, and of every suite."""
    images = [x.to(device) for x in images]
    wanted = {f"{name}@{c}": [f"{name}@{c}"] for c in ("exact", *OCTAVE) for name in names(c)}
    wanted |= {f"suite {name}": keys for name, keys in suites().items()}
    with torch.inference_mode():
        return {k: seconds(lambda v=v: compute(*images, v), repeats, device) for k, v in wanted.items()}  # type: ignore[misc]


def peers(images: list[torch.Tensor], repeats: int, zoo: Path | None) -> dict[str, tuple[str, float]]:
    """Seconds of other Python code on the same grey triple, and the metric of ours that it corresponds to."""
    import torchmetrics.functional.image as tm
    from skimage.metrics import structural_similarity

    grey = [x.float().mean(1, keepdim=True) for x in images]
    arrays = [x[0, 0].numpy() for x in grey]
    a, b, f = grey
    runs: dict[str, tuple[str, Callable[[], Any]]] = {
        "scikit-image structural_similarity": (
            "ssim@exact",
            lambda: [structural_similarity(arrays[2], x, gaussian_weights=True, data_range=255) for x in arrays[:2]],
        ),
        "torchmetrics SSIM": (
            "ssim@exact",
            lambda: [tm.structural_similarity_index_measure(f, x, data_range=255.0) for x in (a, b)],
        ),
        "torchmetrics MS-SSIM": (
            "ms_ssim@exact",
            lambda: [tm.multiscale_structural_similarity_index_measure(f, x, data_range=255.0) for x in (a, b)],
        ),
        "torchmetrics VIF": ("vif@exact", lambda: [tm.visual_information_fidelity(f, x) for x in (a, b)]),
    }
    if zoo is not None:
        runs |= ivif_zoo(zoo, arrays)
    taken = {}
    for name, (key, run) in runs.items():
        try:
            taken[name] = (key, seconds(run, repeats, "cpu"))
        except Exception as error:  # a peer that fails is reported and left out
            print(f"{name}: {type(error).__name__}: {error}")
    return taken


def ivif_zoo(folder: Path, arrays: list[np.ndarray]) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Functions of the clone's Metric_torch.py (it wants scipy and scikit-learn) that have a counterpart here."""
    file = next(folder.rglob("Metric_torch.py"))
    sys.path.insert(0, str(file.parent))
    module = importlib.import_module("Metric_torch")
    a, b, f = (torch.from_numpy(x) for x in arrays)
    same = {
        **{"EN": "en", "SD": "sd", "SF": "sf", "AG": "ag", "EI": "ei", "MI": "mi", "Qabf": "qabf", "Nabf": "nabf"},
        **{"VIF": "vif", "SCD": "scd", "CC": "cc", "SSIM": "ssim", "MS_SSIM": "ms_ssim", "Qcb": "qcb", "Qy": "qy"},
    }
    alone = {"EN", "SD", "SF", "AG", "EI"}  # of the fused image

    def caller(name: str) -> Callable[[], Any]:
        function = getattr(module, f"{name}_function")
        return (lambda: function(f)) if name in alone else (lambda: function(a, b, f))

    return {f"IVIF_ZOO {name}": (f"{own}@exact", caller(name)) for name, own in same.items()}


def main() -> None:
    """Times everything and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="CPU threads, one column each")
    parser.add_argument("--repeats", type=int, default=3, help="runs behind each median")
    parser.add_argument("--ivif-zoo", type=Path, help="folder of a clone of RollingPlain/IVIF_ZOO")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    images = triple()
    columns: dict[str, dict[str, float]] = {}
    other: dict[str, tuple[str, float]] = {}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        columns[f"{threads} core{'s' * (threads > 1)}"] = ours(images, arguments.repeats, "cpu")
        if threads == 1:
            other = peers(images, arguments.repeats, arguments.ivif_zoo)
    if torch.cuda.is_available():
        columns[torch.cuda.get_device_name()] = ours(images, arguments.repeats, "cuda")
    print(f"{'seconds':24}" + "".join(f"{name:>14}" for name in columns) + f"{'Octave':>10}")
    for key in next(iter(columns.values())):
        name, _, convention = key.partition("@")
        octave = OCTAVE.get(convention, {}).get(name)
        row = "".join(f"{column[key]:14.4f}" for column in columns.values())
        print(f"{key:24}{row}" + (f"{octave:10g}" if octave is not None else ""))
    first = next(iter(columns.values()))
    print("\npeers on the grey triple, ours on RGB (its luma)")
    for name, (key, taken) in other.items():
        print(f"{name:38}{taken:9.4f}  {key} {first[key]:.4f}  ratio {taken / first[key]:.1f}")
    if arguments.out:
        machine = {"processor": platform.processor(), "torch": torch.__version__, "fusion": fusion.__version__}
        result = {"machine": machine, "size": [HEIGHT, WIDTH], "seconds": columns, "octave": OCTAVE, "peers": other}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
