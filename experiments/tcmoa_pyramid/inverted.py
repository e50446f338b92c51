"""How much fused pictures reverse what both sources agree on, on the test pairs of a benchmark.

    python experiments/tcmoa_pyramid/inverted.py mefb DATA tcmoa_pyramid average laplacian --worst 3

Values are `fusion.losses.inverted_tone` times 10^4, the mean over the pairs and the worst ones. Models as in benchmarks.py.
"""

import argparse
from pathlib import Path

import torch
from benchmarks import SUITES, build

from fusion.api import compose
from fusion.job.config import instantiate
from fusion.losses import inverted_tone
from fusion.metrics.inputs import luma


def main() -> None:
    """Fuse, measure, print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=SUITES)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--worst", type=int, default=3, help="pairs to name")
    arguments = parser.parse_args()
    module = instantiate(compose("train", ["data=tcmoa_pyramid", f"paths.data_dir={arguments.data}"], "data"))
    pairs = module.parts["test"][arguments.benchmark]
    models = [build(text) for text in arguments.models]
    found: dict[str, dict[str, float]] = {name: {} for name, _ in models}
    for index in range(len(pairs)):
        sample = pairs[index]
        a, b = (torch.as_tensor(sample[side])[None] for side in ("a", "b"))
        sources = torch.stack([luma(x.float() / 255) for x in (a, b)], dim=1)
        for name, model in models:
            fused = model.fuse(a, b, task=sample["task"]).fused
            found[name][str(sample["name"])] = 1e4 * float(inverted_tone(luma(fused)[:, None], sources))
    for name, values in found.items():
        worst = sorted(values.items(), key=lambda item: -item[1])[: arguments.worst]
        mean = sum(values.values()) / len(values)
        print(f"{name}: {mean:.2f}; worst {', '.join(f'{n} {v:.2f}' for n, v in worst)}", flush=True)


if __name__ == "__main__":
    main()
