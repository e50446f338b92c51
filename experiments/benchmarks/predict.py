"""How near `fusion.predict` comes to the network's own speed: pairs per second with files, over pairs per second in memory.

    python experiments/benchmarks/predict.py --models tcmoa_pyramid tcmoa_tiny

Both are run in turns, so that another load of the machine meets both; the table has medians. `--pairs` files of 640x480 are made
of scikit-image's photographs. Start-up and loading of the model are left out, they do not grow with the folder.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from skimage import data as photographs

import fusion
from fusion.data.files.pairs import Pair
from fusion.data.files.reading import read_raster
from fusion.data.sources import prepare
from fusion.files import markdown, write_csv, write_text
from fusion.inference.folders import fuse_jobs
from fusion.inference.targets import Job
from fusion.models.base import FusionModel

OPTIONS = {
    "task": "vif", "color": "auto", "depth": "keep", "keep_gray": True, "check_alignment": 0, "batch_size": "auto",
    "num_workers": 4, "range": "auto", "bands": "auto", "page": None, "match_size": None, "fit": "contain",
    "register": "none", "motion": "affine", "overlap": "keep", "max_memory": "auto",
}  # fmt: skip


def make_pairs(folder: Path, count: int) -> list[tuple[Path, Path]]:
    """Colour and grey files of 640x480, no two alike."""
    color, gray = Image.fromarray(photographs.astronaut()), Image.fromarray(photographs.camera())
    made = []
    for index in range(count):
        box = (index, 2 * index, 400 + index, 300 + 2 * index)
        paths = (folder / f"{index}_a.png", folder / f"{index}_b.png")
        for path, picture in zip(paths, (color, gray), strict=True):
            picture.resize((640, 480), Image.Resampling.BICUBIC, box).save(path)
        made.append(paths)
    return made


def clock(run: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def measure(model: FusionModel, folder: Path, count: int, repeats: int) -> dict[str, object]:
    """One row of the table."""
    pairs = make_pairs(folder, count)
    jobs = [Job(Pair(str(i), a, b), folder / f"{i}_fused.png") for i, (a, b) in enumerate(pairs)]
    tensors = [[x.to(model.device) for x in prepare([read_raster(a), read_raster(b)]).images] for a, b in pairs]

    def network() -> None:
        with torch.inference_mode():
            for a, b in tensors:
                model._fuse_tensor(a, b, "vif")

    def files() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            failed = fuse_jobs(model, jobs, OPTIONS)
        if failed:
            raise RuntimeError(f"failed: {failed}")

    network()
    files()
    times = [(*clock(network, model.device), *clock(files, model.device)) for _ in range(repeats)]
    own, own_processor, whole, whole_processor = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "device": torch.cuda.get_device_name()
        if model.device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "network pairs/s": round(count / own, 3),
        "predict pairs/s": round(count / whole, 3),
        "ratio": round(statistics.median(row[0] / row[2] for row in times), 3),
        "processor ratio": round(own_processor / whole_processor, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tcmoa_pyramid", "tcmoa_tiny"])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("experiments/benchmarks/predict"), help="without ending")
    given = parser.parse_args()
    rows = []
    for name in given.models:
        model = fusion.load_model(name, device=given.device, allow_untrained=True)
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"model": name} | measure(model, Path(folder), given.pairs, given.repeats))
        print(rows[-1], flush=True)
    write_csv(given.out.with_suffix(".csv"), rows)
    table = markdown(list(rows[0]), [list(row.values()) for row in rows], 3)
    write_text(given.out.with_suffix(".md"), f"# Speed of predict at 640x480\n\n{table}")


if __name__ == "__main__":
    main()
