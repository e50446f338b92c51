"""A long training whose tasks alternate, with a validation and checkpoints every few seconds: is its memory flat, and its handles?

    python experiments/reliability/long.py --minutes 60 --out /tmp/long

Writes `long.csv` (seconds, resident MiB and open handles of the whole process tree, steps) and `long.png`.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]
import bench  # noqa: E402

ROOT = bench.ROOT


def tree(pid: int) -> list[int]:
    """A process and everything it started."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def sample(pid: int) -> tuple[float, int]:
    """Resident MiB (shared pages shared out) and open handles of a process tree."""
    memory, handles = 0.0, 0
    for process in tree(pid):
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            memory += int(rollup.split("Pss:")[1].split()[0]) / 1024
            handles += len(os.listdir(f"/proc/{process}/fd"))
        except OSError:
            continue
    return memory, handles


def train(minutes: float, out: Path, data: Path, small: bool) -> None:
    """Train, and look at the process every five seconds."""
    often = [f"trainer.max_time=00:00:{int(minutes):02d}:00", "trainer.max_epochs=100000000",
             "callbacks.last.every_n_train_steps=7", f"run_dir={out / 'run'}"]  # fmt: skip
    if small:
        more = ["data.num_workers=1", "callbacks.images.pairs_per_task=1"]
        arguments = bench.training(data if (data / "train").is_dir() else bench.pairs(data), *often, *more)
        arguments.remove("callbacks.images=null")
    else:
        arguments = [
            "experiment=tcmoa_tiny", "model.weights=null", "model.backbone.weights=null", "data=samples", "data.crop_size=112",
            f"paths.data_dir={data}", "data.batch_size=1", "data.num_workers=1", "data.rounds_per_epoch=10", "trainer=cpu",
            "data.prepare.train_pairs=6", "data.prepare.test_pairs=2", "data.val.llvip.limit=1", "data.val.mefb.limit=1",
            "data.val.mfif.limit=1", "evaluation.metrics=[psnr,ssim]", "monitor.metric=val/psnr", "logger=csv",
            "trainer.log_every_n_steps=1", *often,
        ]  # fmt: skip
    command = [sys.executable, "-m", "fusion.train", *arguments]
    path = os.pathsep.join([str(bench.PLUGIN), str(ROOT)])
    environment = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1", FUSION_TRUSTED_PACKAGES="tinyfusion")
    with (out / "long.log").open("w") as log, (out / "long.csv").open("w", newline="") as file:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        writer = csv.writer(file)
        writer.writerow(["seconds", "mib", "handles", "steps"])
        start, metrics = time.monotonic(), out / "run" / "metrics.csv"
        while process.poll() is None:
            time.sleep(5)
            steps = sum(1 for _ in metrics.open()) - 1 if metrics.is_file() else 0
            memory, handles = sample(process.pid)
            if handles:
                writer.writerow([round(time.monotonic() - start), round(memory, 1), handles, steps])
                file.flush()
    print(f"status {process.returncode}; {(out / 'long.log').read_text().splitlines()[-1]}")


def plot(table: Path, picture: Path) -> None:
    """Memory and handles against time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with table.open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    minutes = [row["seconds"] / 60 for row in rows]
    figure, axes = plt.subplots(2, 1, figsize=(7, 4.5), sharex=True, layout="constrained")
    for ax, key, label in zip(axes, ("mib", "handles"), ("memory of all processes, MiB", "open handles"), strict=True):
        ax.plot(minutes, [row[key] for row in rows], lw=1)
        ax.set(ylabel=label, ylim=(0, 1.15 * max(row[key] for row in rows)))
        ax.grid(alpha=0.3)
    axes[0].set_title(
        f"{rows[-1]['steps']:.0f} steps of alternating tasks, a validation and a checkpoint every few steps"
    )
    axes[1].set_xlabel("minutes")
    figure.savefig(picture, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder for the sample data; default: in --out")
    parser.add_argument("--small", action="store_true", help="the model of the tests: more steps in the same time")
    parser.add_argument("--plot-only", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.plot_only:
        train(given.minutes, given.out, given.data or given.out / "data", given.small)
    plot(given.out / "long.csv", given.out / "long.png")


if __name__ == "__main__":
    main()
