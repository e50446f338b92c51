"""Fit what multi-exposure pairs take of the model, on whole training pictures: the training's objective, and no inverted tone.

    python experiments/tcmoa_pyramid/tone.py WEIGHTS.safetensors OUT.safetensors --data DATA

Changed are the rows of `mef` in the parameters of `RATES`; what tasks share and the rows of the others stay as they are, bit for
bit. The base starts from a choice that is common to all places by `--common`, see README.md, "Recipe".
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion import load_model
from fusion.api import compose
from fusion.hub import read_state, save_weights
from fusion.job.config import instantiate
from fusion.losses import inverted_tone
from fusion.metrics.inputs import luma

TASK = "mef"
SETS = ("mefb", "scie")
RATES = {
    "cue_weights": 1.0,
    "gain": 1.0,
    "hardness": 1.0,
    "faint": 1.0,
    "overview": 1.0,
    "source_embedding": 0.5,
    "head": 0.5,
}
"""By parameter with a row per task, its rate as a share of `--rate`."""
SHORT, LONG = 352, 512
"""Largest sides of a picture, in pixels: about those of most scenes of MEFB."""
Pair = tuple[Tensor, Tensor]


def pairs_of(data: Path) -> list[Pair]:
    """Training pairs in [0, 1], reduced until they are at most `SHORT` x `LONG`."""
    module = instantiate(compose("train", ["data=tcmoa_pyramid", f"paths.data_dir={data}"], "data"))
    found = []
    for name in SETS:
        part = module.parts["train"][name]
        for index in range(len(part)):
            sample = part[index]
            a, b = (torch.as_tensor(sample[side])[None].float() / 255 for side in ("a", "b"))
            sides = sorted(a.shape[-2:])
            scale = min(1.0, SHORT / sides[0], LONG / sides[1])
            size = [round(scale * side) for side in a.shape[-2:]]
            a, b = (F.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1) for x in (a, b))
            found.append((a, b))
    return found


def free_rows(network: nn.Module, row: int) -> dict[str, nn.Parameter]:
    """Let a task's rows of the parameters in `RATES` be trained, of an overview only what holds for all pairs."""
    network.requires_grad_(False)
    free = {name: value for name, value in network.named_parameters() if name.rpartition(".")[2] in RATES}
    for name, parameter in free.items():
        mask = torch.zeros_like(parameter)
        mask[row] = 1
        if name.endswith("overview"):
            mask[..., 1:] = 0
        parameter.requires_grad_().register_hook(mask.mul)  # Adam leaves alone what has no gradient
    return free


@torch.no_grad()
def inverted(network: nn.Module, pairs: list[Pair], row: int) -> Tensor:
    """Inverted tone of every pair, times 10^4."""
    fused = ((a, b, network(a, b, row).fused) for a, b in pairs)
    return torch.stack([1e4 * inverted_tone(luma(f)[:, None], torch.stack([luma(a), luma(b)], 1)) for a, b, f in fused])


def main() -> None:
    """Load, fit, write in half precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="of blend.py or fit.py")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--common", type=float, default=0.7, help="share of a common choice at the base, to start from")
    parser.add_argument(
        "--inverted", type=float, default=4.0, help="weight of inverted tone, as a multiple of the training's"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = cast(Any, load_model("tcmoa_pyramid", overrides=["model.weights=null"]))
    network, row = model.network.eval(), model.tasks.index(TASK)
    network.load_state_dict(network.state_dict() | read_state(arguments.weights))
    objective = model.loss
    objective.weights[TASK]["inverted"] *= arguments.inverted
    base = network.sites[str(network.backbone.levels)]
    share = base.overview.data[row, base.follows.index("common")]
    share[0] = arguments.common
    pairs = pairs_of(arguments.data)
    free = free_rows(network, row)
    groups = [{"params": [p], "lr": arguments.rate * RATES[name.rpartition(".")[2]]} for name, p in free.items()]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
    steps = arguments.epochs * len(pairs)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    order = np.random.default_rng(arguments.seed)
    for epoch in range(arguments.epochs + 1):
        values = inverted(network, pairs, row)
        print(
            f"{epoch}: inverted tone {values.mean():.3f}, worst {values.max():.2f}; common {share[0]:.2f}", flush=True
        )
        if epoch == arguments.epochs:
            break
        began, totals = time.monotonic(), dict[str, float]()
        for place in order.permutation(len(pairs)):
            flips = [axis for axis in (-2, -1) if order.random() < 0.5]
            a, b = (x.flip(flips) for x in pairs[place])
            terms = objective(network(a, b, row), {"task": TASK, "a": a, "b": b}, epoch)
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            schedule.step()
            for name, term in terms.items():
                totals[name] = totals.get(name, 0.0) + float(term.detach()) / len(pairs)
        said = ", ".join(f"{name} {total:.3f}" for name, total in totals.items())
        print(f"{time.monotonic() - began:.0f} s, loss {sum(totals.values()):.3f}: {said}", flush=True)
    state = {name: value.to(torch.float16) for name, value in network.state_dict().items()}
    digest = save_weights(state, arguments.out, {"source": "experiments/tcmoa_pyramid"})
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
