"""Seconds per 640 x 480 triple of every metric and suite, beside the original toolboxes and Python peers.

    python experiments/benchmarks/metrics.py                                 # one core, two, and the GPU if there is one
    python experiments/benchmarks/metrics.py --ivif-zoo DIR --cddfuse DIR    # with the toolboxes that metric_peers.py names
    python experiments/benchmarks/metrics.py --only 'suite*' qp --out ''     # some rows, nothing written

Times are the best of `--repeats` runs after one warm-up: wall seconds and, for one core, the seconds of the processor,
which other jobs on the machine disturb less. Each metric runs alone, so it also pays for what it shares with others in a
suite. Peers and ours take turns on one gray triple and one core; a ratio is that of processor seconds.
"""

import argparse
import fnmatch
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from metric_peers import Peer, find_peers
from omegaconf import OmegaConf

import fusion
from fusion.analysis.cost import describe_device
from fusion.files import markdown, write_csv, write_text
from fusion.job.config import config_dir
from fusion.metrics import Suite, compute, names

HEIGHT, WIDTH = 480, 640
HERE = Path(__file__).parent
# Seconds of the unmodified toolboxes in GNU Octave 7.3 on a loaded core, same size; VIFB on RGB, the others gray
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


class Time(NamedTuple):
    """Best seconds by the clock and of the processor."""

    wall: float
    cpu: float


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


def times(runs: list[Callable[[], Any]], repeats: int, device: str = "cpu") -> list[Time]:
    """Best times of several functions that take turns, so that a busy machine is busy for all of them."""
    best = [Time(float("inf"), float("inf"))] * len(runs)
    for i in range(repeats + 1):
        for k, run in enumerate(runs):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            taken = Time(time.perf_counter() - wall, time.process_time() - cpu)
            if i:
                best[k] = Time(min(best[k].wall, taken.wall), min(best[k].cpu, taken.cpu))
    return best


def wanted_rows(patterns: list[str]) -> dict[str, list[str]]:
    """Every metric in every convention that has it, and every suite of conf/metrics, that match one of the patterns."""
    rows = {f"{name}@{c}": [f"{name}@{c}"] for c in ("exact", *OCTAVE) for name in names(c)}
    for file in sorted((config_dir() / "metrics").glob("*.yaml")):
        suite = Suite.from_config(OmegaConf.to_container(OmegaConf.load(file)))  # type: ignore[arg-type]
        rows[f"suite {suite.name}"] = suite.keys
    chosen = {row for pattern in patterns for row in fnmatch.filter(rows, pattern)}
    return {row: keys for row, keys in rows.items() if row in chosen or row.partition("@")[0] in patterns}


def our_times(images: list[torch.Tensor], rows: dict[str, list[str]], repeats: int, device: str) -> list[Time]:
    """Times of each row on the RGB triple."""
    images = [x.to(device) for x in images]
    with torch.inference_mode():
        return [times([lambda k=keys: compute(*images, k)], repeats, device)[0] for keys in rows.values()]  # type: ignore[misc]


def peer_times(images: list[torch.Tensor], peers: list[Peer], repeats: int) -> list[dict[str, Any]]:
    """One row per peer with ours beside it, and a last one of all metrics together, each by its fastest peer."""
    rows: list[dict[str, Any]] = []
    fastest: dict[str, float] = {}
    with torch.inference_mode():
        for name in dict.fromkeys(peer.metric for peer in peers):
            rivals = [peer for peer in peers if peer.metric == name]
            taken = times([lambda n=name: compute(*images, [n]), *(r.run for r in rivals)], repeats)  # type: ignore[misc]
            fastest[name] = min(t.cpu for t in taken[1:])
            for rival, theirs in zip(rivals, taken[1:], strict=True):
                rows.append(_peer_row(name, rival.library, theirs.cpu, taken[0].cpu))
        if fastest:
            together = times([lambda: compute(*images, list(fastest))], repeats)[0]
            rows.append(_peer_row(f"all {len(fastest)}", "the fastest of each", sum(fastest.values()), together.cpu))
    return rows


def _peer_row(name: str, library: str, theirs: float, ours: float) -> dict[str, Any]:
    return {"metric": name, "peer": library, "peer s": theirs, "ours s": ours, "ratio": theirs / ours}


def main() -> None:
    """Times everything, prints the tables and writes them as CSV and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="CPU threads, one column each")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the best counts")
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of rows, or names of metrics")
    parser.add_argument("--ivif-zoo", type=Path, help="folder of a clone of RollingPlain/IVIF_ZOO")
    parser.add_argument("--cddfuse", type=Path, help="folder of a clone of Zhaozixiang1228/MMIF-CDDFuse")
    parser.add_argument("--note", default="", help="a line for the tables, such as what else the machine did")
    parser.add_argument("--out", default=str(HERE / "metrics"), help="files to write, without suffix; '' for none")
    arguments = parser.parse_args()
    images, rows = triple(), wanted_rows(arguments.only)
    columns: dict[str, list[float]] = {}
    machines, compared = [], []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        machines.append(describe_device(torch.device("cpu")))
        taken = our_times(images, rows, arguments.repeats, "cpu")
        columns[f"{threads} thread{'s' * (threads > 1)}, wall"] = [t.wall for t in taken]
        if threads == 1:
            columns["1 thread, processor"] = [t.cpu for t in taken]
            gray = [x.float().mean(1, keepdim=True).round().byte() for x in images]
            compared = peer_times(gray, find_peers(gray, arguments.ivif_zoo, arguments.cddfuse), arguments.repeats)
    if torch.cuda.is_available():
        machines.append(describe_device(torch.device("cuda")))
        columns["GPU"] = [t.wall for t in our_times(images, rows, arguments.repeats, "cuda")]
    table: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        name, _, convention = row.partition("@")
        octave = OCTAVE.get(convention, {}).get(name)
        table.append({"metric": row, **{c: times_[i] for c, times_ in columns.items()}, "Octave": octave})
    made = f"{'; '.join(machines)}; torch {torch.__version__}; fusion {fusion.__version__}"
    text = io.StringIO()
    text.write(f"Seconds on a {WIDTH} x {HEIGHT} RGB triple, best of {arguments.repeats}.\n\n{made}\n")
    text.write(f"\n{arguments.note}\n\n" if arguments.note else "\n")
    text.write(markdown(list(table[0]), [list(row.values()) for row in table]))
    if compared:
        text.write("\nPeers on a gray triple of that size, processor seconds of one thread, taken in turns:\n\n")
        text.write(markdown(list(compared[0]), [list(row.values()) for row in compared]))
    print(text.getvalue(), end="")
    if arguments.out:
        write_text(Path(f"{arguments.out}.md"), text.getvalue())
        write_csv(Path(f"{arguments.out}.csv"), [{**row, "made by": made} for row in table])
        if compared:
            write_csv(Path(f"{arguments.out}_peers.csv"), [{**row, "made by": made} for row in compared])


if __name__ == "__main__":
    main()
