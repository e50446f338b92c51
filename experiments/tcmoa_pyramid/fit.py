"""Fit what `vif` weighs and how it follows the pair as a whole, on training pairs, by the estimated mean rank.

    python experiments/tcmoa_pyramid/fit.py BLENDED.safetensors OUT.safetensors --data DATA --vifb PUBLISHED/vifb.csv --tno tno.csv

Changed are the weights of the cues and `sites.*.overview`, of `vif` alone; see README.md, "Recipe". The anchor is
the classic start (`model.weights=null`), whose scores are the files anchor_*.csv. Estimates on watched pairs are printed as well.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from pairs import Pair, fitted, watched
from standing import Standing
from torch import Tensor, nn
from torch.func import functional_call

from fusion import load_model
from fusion.hub import read_state, save_weights

HERE = Path(__file__).parent
VIF = 0
"""Place of the task that is fitted."""
BATCH = 8
EVERY = {"vifb": 1, "tno": 3}
"""By benchmark, one pair of so many is measured for it."""
RATES = {"cue_weights": 0.015, "overview": 0.02}
STEPS = {"hardness": 0.25, "gain": 0.25, "faint": 0.3, "common": 0.4, "offset": 0.33, "lift": 0.05, "bend": 0.05}
"""By row of an overview, how much it changes at a step, as a share of the rate."""


class Fitted:
    """A network of which some rows of `vif` are free.

    Args:
        network: a `PyramidNetwork`; stays as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network.requires_grad_(False)
        self.fixed = {name: value.detach().clone() for name, value in network.named_parameters()}
        self.free = {
            name: (value[VIF] / self._step(name)).requires_grad_()
            for name, value in self.fixed.items()
            if name.endswith(("cue_weights", "overview"))
        }

    def _step(self, name: str) -> Tensor | float:
        if not name.endswith("overview"):
            return 1.0
        site = self.network.get_submodule(name.rpartition(".")[0])
        return torch.tensor([[STEPS[row]] for row in site.follows])

    def state(self) -> dict[str, Tensor]:
        """Parameters with the free rows in their place."""
        rows = {
            name: torch.cat([row[None] * self._step(name), self.fixed[name][1:]]) for name, row in self.free.items()
        }
        return self.fixed | rows

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse a pair."""
        return functional_call(self.network, self.state(), (a, b, VIF)).fused

    def groups(self, speed: float) -> list[dict]:
        """Groups of an optimiser."""
        return [{"params": [row], "lr": speed * RATES[name.rpartition(".")[2]]} for name, row in self.free.items()]

    def strain(self) -> Tensor:
        """How much the settings follow the pair, beyond what holds for all."""
        overviews = [row for name, row in self.free.items() if name.endswith("overview")]
        return torch.stack([row[:, 1:].square().sum() for row in overviews]).sum()


@torch.no_grad()
def means(model: Fitted, pairs: list[Pair], standings: list[Standing]) -> list[Tensor]:
    """By benchmark, metrics of its share of the pairs, `(pairs, M)`."""
    triples = [(a, b, model(a, b)) for _, a, b in pairs]
    return [torch.stack([standing.measured(*x) for x in triples[:: EVERY[standing.suite]]]) for standing in standings]


def told(standings: list[Standing], now: list[Tensor]) -> str:
    """Estimated mean ranks and the ranks of the first benchmark."""
    ranks = [standing.ranks(values.mean(0)) for standing, values in zip(standings, now, strict=True)]
    single = " ".join(f"{name} {rank:g}" for name, rank in zip(standings[0].names, ranks[0], strict=True))
    return f"VIFB {ranks[0].mean():.2f}, TNO {ranks[1].mean():.2f} | {single}"


def main() -> None:
    """Load, fit, write in half precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="of blend.py, or of an earlier fit")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vifb", type=Path, required=True, help="published values of VIFB")
    parser.add_argument("--tno", type=Path, required=True, help="of Tang's sheet, by tno_sheet.py")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--share", type=float, default=0.05, help="of TNO beside VIFB")
    parser.add_argument("--width", type=float, default=0.2, help="of the steps between ranks, in standard deviations")
    parser.add_argument("--speed", type=float, default=1.0, help="factor on the rates")
    parser.add_argument("--strain", type=float, default=0.005, help="weight of what follows the pair")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--override", nargs="*", default=[], help="of an ablation's model")
    arguments = parser.parse_args()
    network = load_model("tcmoa_pyramid", overrides=[*arguments.override, "model.weights=null"]).network
    standings = [
        Standing(suite, published, HERE / f"anchor_{suite}.csv", "tcmoa_pyramid+model.weights=null")
        for suite, published in (("vifb", arguments.vifb), ("tno", arguments.tno))
    ]
    anchor = Fitted(network)
    sets = [fitted(arguments.data, arguments.seed), watched(arguments.data, arguments.seed)]
    anchors = [[values.mean(0) for values in means(anchor, pairs, standings)] for pairs in sets]
    network.load_state_dict(network.state_dict() | read_state(arguments.weights))
    model = Fitted(network)

    def use(which: int) -> None:
        for standing, here in zip(standings, anchors[which], strict=True):
            standing.here = here

    def report(head: str) -> None:
        use(1)
        print(head, "watched:", told(standings, means(model, sets[1], standings)), flush=True)
        use(0)

    pairs = sets[0]
    report("start")
    now = means(model, pairs, standings)
    optimizer = torch.optim.Adam(model.groups(arguments.speed), betas=(0.9, 0.98))
    steps = arguments.epochs * (len(pairs) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 6) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    order = np.random.default_rng(arguments.seed)
    for epoch in range(arguments.epochs):
        began, places = time.monotonic(), order.permutation(len(pairs))
        for first in range(0, len(places) - BATCH + 1, BATCH):
            slopes = [
                share * _slope(standing, values.mean(0), arguments.width)
                for share, standing, values in zip((1.0, arguments.share), standings, now, strict=True)
            ]
            optimizer.zero_grad()
            for place in places[first : first + BATCH]:
                _, a, b = pairs[place]
                out = model(a, b)
                for standing, values, slope in zip(standings, now, slopes, strict=True):
                    every = EVERY[standing.suite]
                    if place % every:
                        continue
                    seen = standing.measured(a, b, out)
                    values[place // every] = seen.detach()
                    (every * (slope * seen).sum() / BATCH).backward(retain_graph=True)
            (arguments.strain * model.strain()).backward()
            optimizer.step()
            schedule.step()
        print(f"{epoch + 1}/{arguments.epochs}, {time.monotonic() - began:.0f} s:", told(standings, now), flush=True)
        if epoch % 3 == 2:
            report(f"{epoch + 1}/{arguments.epochs}")
    state = {name: value.to(torch.float16) for name, value in (network.state_dict() | model.state()).items()}
    digest = save_weights(state, arguments.out, {"source": "experiments/tcmoa_pyramid"})
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB, sha256 {digest}")


def _slope(standing: Standing, now: Tensor, width: float) -> Tensor:
    values = now.clone().requires_grad_()
    (slope,) = torch.autograd.grad(standing.soft_rank(values, width), values)
    return slope


if __name__ == "__main__":
    main()
