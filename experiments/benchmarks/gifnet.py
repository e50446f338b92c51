"""GIFNet's speed and memory: our forward pass, beside the released code where a copy of it is at hand.

    python experiments/benchmarks/gifnet.py                                          ours alone, random weights
    python experiments/benchmarks/gifnet.py --ckpt Final.model --official GIFNET     beside a clone of the released code
    python experiments/benchmarks/gifnet.py --official-seconds 8.6                   beside a time measured elsewhere
    python experiments/benchmarks/gifnet.py --memory 1024 1280                       peak memory in a process of its own

Runs of all candidates take turns and the best of each counts. Two clocks are shown: the wall's, and that of the process
(CPU seconds of all threads), which other jobs on the machine disturb less. Ratios are official over ours.
"""

import argparse
import importlib
import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fusion import load_model
from fusion.analysis.cost import describe_device, peak_process_bytes, process_bytes
from fusion.models.gifnet import GIFNet
from fusion.models.gifnet.inference import FastGIFNet
from fusion.models.gifnet.tiles import fuse_luma

PLOTTING = ("cv2", "matplotlib", "matplotlib.pyplot", "scipy", "scipy.io", "seaborn")
"""What the released model file imports and its forward pass does not use."""


def official(folder: Path, ckpt: Path | None) -> Callable[[Tensor], Tensor]:
    """The released forward pass, `(B, 2, H, W)` to `(B, 1, H, W)`, imported from the user's copy."""
    if not (folder / "GIFNet_model.py").is_file():
        raise SystemExit(f"--official {folder}: no GIFNet_model.py there; give a clone of the released code")
    sys.path.insert(0, str(folder))
    for name in PLOTTING:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
    settings = importlib.import_module("args").Args
    model = importlib.import_module("GIFNet_model").TwoBranchesFusionNet(
        settings.s, settings.n, settings.channel, settings.stride
    )
    if ckpt is not None:
        model.load_state_dict(torch.load(ckpt, map_location="cpu", weights_only=True))
    model.eval()

    def run(pair: Tensor) -> Tensor:
        shared = model.forward_encoder(pair[:, :1], pair[:, 1:])
        branch = model.forward_MultiTask_branch(fea_com_ivif=shared, fea_com_mfif=shared)
        return model.forward_mixed_decoder(shared, branch)

    return run


def candidates(model: GIFNet, args: argparse.Namespace) -> dict[str, Callable[[Tensor], Tensor]]:
    """What is measured, by name; the first is what the others are compared with."""
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    if args.official:
        found["official"] = official(Path(args.official), args.ckpt)
    found["ours"] = lambda pair: FastGIFNet(model.network)(pair)
    if args.plain:
        found["ours, plain network"] = lambda pair: model.network(pair)[0]
    found["ours, bfloat16"] = lambda pair: FastGIFNet(model.network, dtype=torch.bfloat16)(pair)
    if args.tile:
        found[f"ours, tiles of {args.tile}"] = lambda pair: fuse_luma(FastGIFNet(model.network), pair, 1, args.tile)
    return found


def measure(runs: dict[str, Callable[[Tensor], Tensor]], pair: Tensor, repeats: int) -> dict[str, dict[str, float]]:
    """Best wall and process seconds of each, and the largest difference from the first (or, without the released code,
    from ours in float32)."""
    best = {name: {"wall_s": float("inf"), "cpu_s": float("inf"), "difference": 0.0} for name in runs}
    with torch.inference_mode():
        for _ in range(repeats):
            reference = None
            for name, run in runs.items():
                wall, process = time.perf_counter(), time.process_time()
                fused = run(pair)
                taken = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - process}
                reference = fused if reference is None else reference
                best[name] |= {key: min(best[name][key], value) for key, value in taken.items()}
                best[name]["difference"] = float((fused - reference).abs().max())
    return best


def peak_memory(args: argparse.Namespace) -> None:
    """Fuse one random color pair through `model.fuse` in this fresh process and print its peak resident size."""
    height, width = args.memory
    model = load_model("gifnet", ckpt_path=args.ckpt, overrides=[f"model.tile={args.tile}"] if args.tile else [])
    a, b = torch.rand(2, 3, height, width)
    start = process_bytes()
    model.fuse(a, b, task="vif")
    print(f"{height}x{width}: peak {peak_process_bytes() / 2**30:.2f} GiB, before fusing {start / 2**30:.2f} GiB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[448, 448], help="height and width")
    parser.add_argument("--ckpt", type=Path, default=None, help="released checkpoint; default: random weights")
    parser.add_argument("--official", default=None, help="folder of the released code (the one with GIFNet_model.py)")
    parser.add_argument("--official-seconds", type=float, default=None, help="its wall time, measured elsewhere")
    parser.add_argument("--plain", action="store_true", help="also the network as it is trained")
    parser.add_argument("--tile", type=int, default=None, help="also by tiles of this side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs=2, default=None, help="height and width: peak memory alone")
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the numbers")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory:
        peak_memory(args)
        return
    if args.official and args.ckpt is None:
        raise SystemExit("--official needs --ckpt, so that both have the same weights")
    model = load_model("gifnet", ckpt_path=args.ckpt)
    assert isinstance(model, GIFNet)
    torch.manual_seed(0)
    pair = torch.rand(1, 2, *args.size)
    results = measure(candidates(model, args), pair, args.repeats)
    about = describe_device(torch.device("cpu"))
    try:
        load = Path("/proc/loadavg").read_text().split()[0]
    except OSError:
        load = "unknown"
    print(f"{about}; torch {torch.__version__}; {args.size[0]}x{args.size[1]}, best of {args.repeats}; load {load}\n")
    wall, cpu = (results.get("official", {}).get(key) for key in ("wall_s", "cpu_s"))
    wall = wall or args.official_seconds
    print("| | wall s | CPU s | official / this, wall | CPU | largest difference |\n|---|--:|--:|--:|--:|--:|")
    for name, row in results.items():
        ratios = [f"{of / row[key]:.2f}" if of else "-" for of, key in ((wall, "wall_s"), (cpu, "cpu_s"))]
        print(
            f"| {name} | {row['wall_s']:.2f} | {row['cpu_s']:.2f} | {ratios[0]} | {ratios[1]} | {row['difference']:.1e} |"
        )
    if args.out:
        args.out.write_text(
            json.dumps({"machine": about, "load": load, "size": args.size, "results": results}, indent=2)
        )


if __name__ == "__main__":
    main()
