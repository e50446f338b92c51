"""Fuse the test pairs of a benchmark with some models and score them by that benchmark's own metrics.

    python experiments/tcmoa_pyramid/benchmarks.py vifb DATA tcmoa_pyramid average laplacian --out vifb.csv
    python experiments/metrics/published_rank.py vifb.csv PUBLISHED/vifb.csv

A model is a name of conf/model, NAME=CHECKPOINT, or NAME+OVERRIDE+... for one of its variants. The table has a row per picture and
model, in the suite's order; with --pictures the fused pictures are written as well.
"""

import argparse
import csv
from pathlib import Path

import torch
from omegaconf import OmegaConf

from fusion.api import compose, load_model
from fusion.data.files.image import write_image
from fusion.job.config import config_dir, instantiate, plain
from fusion.metrics import Suite, compute
from fusion.models.base import FusionModel

SUITES = {"vifb": "vifb", "mefb": "mefb", "tno": "tno", "mfif": "tcmoa_mff"}


def build(text: str) -> tuple[str, FusionModel]:
    """Name in tables and model of an argument."""
    name, *overrides = text.split("+")
    checkpoint = None
    if not overrides and "=" in name:
        name, checkpoint = name.split("=", 1)
    return text if overrides else name, load_model(name, checkpoint, overrides=overrides)


def main() -> None:
    """Fuse, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=SUITES)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    suite = Suite.from_config(plain(OmegaConf.load(config_dir() / "metrics" / f"{SUITES[arguments.benchmark]}.yaml")))
    module = instantiate(compose("train", ["data=tcmoa_pyramid", f"paths.data_dir={arguments.data}"], "data"))
    pairs = module.parts["test"][arguments.benchmark]
    models = [build(text) for text in arguments.models]
    with arguments.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "method", *(str(column.key) for column in suite.columns)])
        for index in range(len(pairs)):
            sample = pairs[index]
            a, b = (torch.as_tensor(sample[side])[None] for side in ("a", "b"))
            for name, model in models:
                fused = model.fuse(a, b, task=sample["task"]).fused
                fused = (255 * fused + 0.5).to(torch.uint8)
                if arguments.pictures:
                    write_image(arguments.pictures / name / f"{sample['name']}.png", fused[0])
                values = compute(a, b, fused, suite.keys)
                writer.writerow([sample["name"], name, *(f"{float(value):.6g}" for value in values.values())])
                file.flush()


if __name__ == "__main__":
    main()
