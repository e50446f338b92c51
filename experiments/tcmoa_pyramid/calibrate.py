"""Tune a few numbers of `vif` after training, by the estimated rank on VIFB of the pairs that `watched.py` watches.

    python experiments/tcmoa_pyramid/calibrate.py DATA WEIGHTS calibration.yaml --vifb PUBLISHED/vifb.csv --minutes 6
    python experiments/tcmoa_pyramid/blend.py RUN/checkpoints/last.ckpt OUT --share 0.4 1 0.5 --calibration calibration.yaml

Thirteen numbers: factors on hardness, gains, faint detail and cue weights at the fine, middle and coarse bands and the base, and
the share of a common choice. An evolution strategy: ten variants about a mean, the mean of the best four is the next mean.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn
from watched import Standing, watched

from fusion import load_model

# start, spread, least, most
NUMBERS: dict[str, tuple[float, float, float, float]] = {
    "hardness_fine": (1.0, 0.1, 0.3, 1.6),
    "hardness_coarse": (1.0, 0.12, 0.3, 1.8),
    "hardness_base": (1.2, 0.15, 0.3, 1.6),
    "gain_fine": (1.0, 0.04, 0.7, 1.3),
    "gain_middle": (1.0, 0.05, 0.7, 1.4),
    "gain_coarse": (1.0, 0.06, 0.6, 1.5),
    "gain_base": (1.0, 0.04, 0.8, 1.25),
    "faint_fine": (1.0, 0.15, 0.4, 1.8),
    "faint_coarse": (1.0, 0.15, 0.4, 1.8),
    "cues_fine": (1.0, 0.2, 0.3, 3.0),
    "cues_coarse": (1.0, 0.2, 0.3, 3.0),
    "cues_base": (1.0, 0.2, 0.2, 3.0),
    "common": (0.5, 0.15, 0.0, 1.0),
}
TASK = 0  # vif


def calibrated(network: nn.Module, numbers: dict[str, float]) -> None:
    """Change `vif` of a pyramid network in place; `common` too, which is part of the configuration and not of the weights."""
    levels = network.backbone.levels
    middle = (levels - 1) / 2
    for key, site in network.sites.items():
        level = int(key)
        share = level / (levels - 1)
        ends = {
            name: numbers[f"{name}_base"] if site.base else np.interp(share, [0, 1], [fine, numbers[f"{name}_coarse"]])
            for name, fine in ((n, numbers[f"{n}_fine"]) for n in ("hardness", "cues"))
        }
        with torch.no_grad():
            site.hardness[TASK] = (site.hardness[TASK] * ends["hardness"]).clamp(0, 1)
            site.cue_weights[TASK] *= ends["cues"]
            places, values = [0, middle, levels - 1], [numbers[f"gain_{n}"] for n in ("fine", "middle", "coarse")]
            factor = numbers["gain_base"] if site.base else np.interp(level, places, values)
            wanted = site.gain[TASK].tanh() + np.log(factor) / site.gain_log
            site.gain[TASK] = wanted.clamp(-0.99, 0.99).atanh()
            if site.faint is not None:
                site.faint[TASK] += np.log(np.interp(share, [0, 1], [numbers["faint_fine"], numbers["faint_coarse"]]))
            if site.common is not None:
                site.common[TASK] = numbers["common"]


def main() -> None:
    """Search, and write the best numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path, help="as blend.py writes them without a calibration")
    parser.add_argument("out", type=Path)
    parser.add_argument("--vifb", type=Path, required=True, help="published values of VIFB")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    standing = Standing("vifb", arguments.vifb, load_model("tcmoa_pyramid"), watched(arguments.data))
    model = load_model("tcmoa_pyramid", overrides=[f"model.weights={arguments.weights}"])
    start = {name: value.clone() for name, value in model.network.state_dict().items()}
    center, spread, low, high = (np.array(column) for column in zip(*NUMBERS.values(), strict=True))
    random, width = np.random.default_rng(arguments.seed), 1.0

    def cost(values: np.ndarray) -> float:
        model.network.load_state_dict(start)
        calibrated(model.network, dict(zip(NUMBERS, values.tolist(), strict=True)))
        with torch.inference_mode():
            return standing.smooth(model)

    best, chosen = cost(center), center
    end = time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < end:
        tried = [np.clip(center + width * spread * random.standard_normal(len(center)), low, high) for _ in range(10)]
        costs = [cost(values) for values in tried]
        order = np.argsort(costs)
        tried.append(np.average([tried[index] for index in order[:4]], axis=0, weights=[0.45, 0.3, 0.15, 0.1]))
        costs.append(cost(tried[-1]))
        if min(costs) < best:
            best, chosen = min(costs), tried[int(np.argmin(costs))]
        center = tried[-1] if costs[-1] <= np.median(costs) else (center + chosen) / 2
        width *= 0.96
        print(f"estimated mean rank on VIFB, smooth: {best:.3f}", flush=True)
    numbers = {name: round(value, 3) for name, value in zip(NUMBERS, chosen.tolist(), strict=True)}
    OmegaConf.save(OmegaConf.create(numbers), arguments.out)


if __name__ == "__main__":
    main()
