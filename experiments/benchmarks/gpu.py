"""Speed and memory of all models on a GPU, beside what the card can do and beside the released code.

    python experiments/benchmarks/gpu.py                                          the table, in under four minutes
    python experiments/benchmarks/gpu.py --tcmoa TC-MoA --gifnet GIFNet           beside clones of the released code
    python experiments/benchmarks/gpu.py --only tcmoa training --out gpu.json     some rows; also as JSON
    python experiments/benchmarks/gpu.py --device cpu --seconds 0.1               small sizes, to try it without a GPU

Share is of the matrix product's speed in the same precision, measured first; GiB is the most that PyTorch held, weights included.
Times are medians of at least three runs after two to warm up. TC-MoA enlarges a pair of 512x640 to 560x672, which is what its rows
say; the released code's forward pass has its losses in it, as its prediction does. On a CPU they are CPU seconds, and sizes small.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import gpu_released as released
import gpu_work as work
from gpu_clock import Clock, Row, precision

from fusion.analysis.cost import describe_device

SECTIONS = ("best", "tcmoa", "training", "gifnet", "small", "lightning", "metrics", "parts", "compiled")


def sections(clock: Clock, args: argparse.Namespace) -> dict[str, Callable[[], Iterator[Row]]]:
    """The blocks of the table by name, in their order; the last ones may be left out when time runs short."""
    big = not args.small
    large = ("TC-MoA-L", "tcmoa_large") if big else ("TC-MoA tiny", "tcmoa_tiny")
    size = (512, 640) if big else (112, 112)
    fused_at = (560, 672) if big else (112, 112)  # what 512x640 is enlarged to
    every = ["fp32", "tf32", "fp16", "bf16"] if clock.cuda else ["fp32", "bf16"]

    def tcmoa() -> Iterator[Row]:
        yield from work.fusing(clock, large[0], large[1], fused_at, every, (1, 16) if big else (1, 2))
        overrides = ("model.network.stream=float32",)
        yield from work.fusing(
            clock, f"{large[0]}, stream float32", large[1], fused_at, every[-1:], overrides=overrides
        )
        if args.tcmoa and clock.cuda:  # it puts parts of itself on a GPU
            yield from official_tcmoa(clock, args, size)

    def training() -> Iterator[Row]:
        crop, batch = (448, 3) if big else (112, 1)
        forms = {
            "as configured": [], "MLPs recomputed": ["model.network.gradient_checkpointing=mlp"],
            "stream float32": ["model.network.stream=float32"],
        }  # fmt: skip
        yield from work.learning(clock, f"training {large[0]}", large[1], crop, batch, every[-2], forms)

    def gifnet() -> Iterator[Row]:
        for side in ((448, 448), (1024, 1280)) if big else ((64, 64),):
            yield from work.fusing(clock, "GIFNet", "gifnet", side, [every[0], every[-1]])
            if args.gifnet:
                run = released.gifnet(args.gifnet).to(clock.device)  # type: ignore[attr-defined]
                pair = torch.rand(1, 2, *side, device=clock.device)
                with torch.inference_mode(), precision(clock.device, "fp32"):
                    yield clock.row(f"GIFNet, {side[0]}x{side[1]}", "fp32, released code", partial(run, pair), None)

    def small() -> Iterator[Row]:
        side = (448, 448) if big else (112, 112)
        yield from work.fusing(clock, "tcmoa_tiny", "tcmoa_tiny", side, ["fp32", "bf16"])
        yield from work.fusing(clock, "toar_base", "toar_base", (1024, 1280) if big else (64, 64), ["fp32", every[-1]])
        crop, batch = (224, 2) if big else (112, 1)
        yield from work.learning(clock, "training tcmoa_tiny", "tcmoa_tiny", crop, batch, "bf16", {"as configured": []})

    def lightning() -> Iterator[Row]:
        crop, batch, steps = (224, 2, 120) if big else (112, 1, 6)
        yield work.lightning_steps(clock, crop, batch, steps, "bf16")

    def compiled() -> Iterator[Row]:
        modes = ("default", "reduce-overhead") if clock.cuda else ("default",)
        side = (448, 448) if big else (112, 112)
        yield from work.fusing(clock, "tcmoa_tiny", "tcmoa_tiny", side, ["bf16"], (), modes)
        if big:
            yield from work.fusing(clock, "toar_base", "toar_base", (1024, 1280), ["bf16"], (), ("default",))
            yield from work.fusing(clock, large[0], large[1], fused_at, ["bf16"], (), ("default",))

    blocks: dict[str, Callable[[], Iterator[Row]]] = {
        "best": lambda: iter(clock.best()), "tcmoa": tcmoa, "training": training, "gifnet": gifnet, "small": small,
        "lightning": lightning, "metrics": lambda: work.metrics(clock, (480, 640) if big else (96, 96), 8 if big else 2),
        "parts": lambda: work.parts(clock, 60 if big else 6, 16 if big else 2, 1024 if big else 32),
    }  # fmt: skip
    if big or args.only:  # the CPU's compiler takes minutes
        blocks["compiled"] = compiled
    return blocks


def official_tcmoa(clock: Clock, args: argparse.Namespace, size: tuple[int, int]) -> Iterator[Row]:
    """The released TC-MoA: a pair at the size it is enlarged to, and one round of training."""
    model = released.tcmoa(args.tcmoa, large=not args.small).to(clock.device).eval()
    name, crop, batch = ("TC-MoA-B", 112, 1) if args.small else ("TC-MoA-L", 448, 3)
    height, width = (-(-side // 112) * 112 for side in size)
    a, b = torch.randn(2, 1, 3, height, width, device=clock.device)
    label = f"{name}, {height}x{width}"
    for setting in ("fp32", "tf32", "fp16"):
        with torch.inference_mode(), precision(clock.device, setting):
            yield clock.row(label, f"{setting}, released code", partial(model, a, b, 0), None)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    scaler = torch.amp.GradScaler(clock.device.type, enabled=clock.cuda)
    a, b = torch.randn(2, batch, 3, crop, crop, device=clock.device)

    def step() -> None:
        for task in range(3):
            with precision(clock.device, "fp16"):
                loss = model(a, b, task, 5)[0]["loss"]
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    yield clock.row(f"training {name}: 3 tasks x {batch} crops of {crop}", "fp16, released code", step, None)


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| work | setting | ms | TFLOP/s | share | GiB | |", "|---|---|--:|--:|--:|--:|---|"]
    for row in rows:
        cells = [f"{row.ms:.3g}" if row.ms else "", f"{row.tflops:.3g}" if row.tflops else ""]
        cells += [f"{100 * row.share:.0f} %" if row.share else "", f"{row.gib:.2f}" if row.gib else ""]
        lines.append(f"| {row.work} | {row.setting} | {' | '.join(cells)} | {row.note} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tcmoa", type=Path, default=None, help="folder of TC-MoA's released code")
    parser.add_argument("--gifnet", type=Path, default=None, help="folder of GIFNet's released code")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=None, help="blocks of the table")
    parser.add_argument("--seconds", type=float, default=0.5, help="per measurement")
    parser.add_argument("--limit", type=float, default=220.0, help="seconds after which no further block is begun")
    parser.add_argument("--small", action="store_true", default=None, help="small sizes (default on a CPU)")
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the numbers")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    released.check(args.tcmoa, args.gifnet)
    clock = Clock(torch.device(args.device), args.seconds)
    args.small = not clock.cuda if args.small is None else args.small
    print(f"{describe_device(clock.device)}; torch {torch.__version__}; {'small' if args.small else 'full'} sizes\n")
    rows: list[Row] = []
    began = time.perf_counter()
    for name, block in sections(clock, args).items():
        if args.only and name not in args.only:
            continue
        if time.perf_counter() - began > args.limit:
            print(f"{name}: left out, {args.limit:.0f} s are over (--limit)", file=sys.stderr)
            continue
        try:
            for row in block():
                rows.append(row)
                print(table([row]).splitlines()[-1], flush=True, file=sys.stderr)
        except Exception as problem:  # one block must not lose the others
            rows.append(Row(name, "failed", note=f"{type(problem).__name__}: {' '.join(str(problem).split())[:160]}"))
        if clock.cuda:
            torch.cuda.empty_cache()
        if args.out:  # after every block: what is measured stays when time is up
            about = {"machine": describe_device(clock.device), "torch": torch.__version__, "small": args.small}
            args.out.write_text(json.dumps(about | {"rows": [row.as_dict() for row in rows]}, indent=2) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
