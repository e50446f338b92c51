"""Where a model would stand on VIFB and TNO, estimated from the watched pairs: for choices while the model is made.

    python experiments/tcmoa_pyramid/watched.py DATA --vifb PUBLISHED/vifb.csv --tno tno.csv tcmoa_pyramid=RUN

The anchor is the shipped model, whose scores on the test pairs lie in this folder. What a metric changes on the watched pairs
against the anchor is added to the anchor's mean on the test pairs, or multiplies it where the metric is a strength or an error; the
mean rank among the published methods follows. The estimate is off by some tenths of a rank.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks import build
from omegaconf import OmegaConf
from scipy.stats import rankdata
from torch import Tensor

from fusion import load_model
from fusion.api import compose
from fusion.job.config import config_dir, instantiate, plain
from fusion.metrics import Suite, compute, info

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "metrics"))
from published_rank import read  # noqa: E402

FACTORS = {"vifb": {"ag", "ei", "sd", "sf", "qcv", "rmse", "ce"}, "tno": {"sf", "mse", "vif", "ag"}}
"""Metrics whose change is a factor."""
Pairs = list[tuple[Tensor, Tensor]]


def watched(data: Path) -> Pairs:
    """Pairs that resemble VIFB's, cut to 320x416: the watched ones of LLVIP at half size; of RoadScene, whose infrared pictures are
    stretched, two of three with the infrared contrast halved; and the eight of MSRS, which are trained on.
    """
    module = instantiate(
        compose("train", ["data=tcmoa_pyramid", f"paths.data_dir={data}", "data.train.msrs.cache=null"], "data")
    )
    pairs = []
    for part, name in (("val", "roadscene"), ("train", "msrs"), ("val", "llvip")):
        dataset = module.parts[part][name]
        for index in range(len(dataset)):
            sample = dataset[index]
            a, b = (torch.as_tensor(sample[side])[None] for side in ("a", "b"))
            a, b = (x.float() / 255 if x.dtype == torch.uint8 else x for x in (a, b))
            if name == "llvip":
                a, b = (F.interpolate(x, scale_factor=0.5, mode="area")[..., 100:420, 150:566] for x in (a, b))
            elif name == "msrs":
                a, b = (x[..., 60:380, 100:516] for x in (a, b))
            elif index % 3:
                a, b = (x[..., :320, :416] for x in (a, b))
                b = 0.8 * b.mean() + 0.5 * (b - b.mean())
            else:
                continue
            pairs.append((a, b))
    return pairs


class Standing:
    """A benchmark's published means, the anchor's, and where other models stand among them."""

    def __init__(self, suite: str, published: Path, anchor: torch.nn.Module, pairs: Pairs) -> None:
        settings = plain(OmegaConf.load(config_dir() / "metrics" / f"{suite}.yaml"))
        self.pairs, self.suite = pairs, Suite.from_config(settings)
        self.convention = settings["convention"]
        self.names = [str(column.key).split("@")[0] for column in self.suite.columns]
        ours, (_, theirs) = read(HERE / f"scores_{suite}.csv")[1]["tcmoa_pyramid"], read(published)
        images = sorted(set(ours).intersection(*(set(values) for values in theirs.values())))
        self.published = np.array([np.mean([v[i] for i in images], axis=0) for v in theirs.values()])
        self.there = np.mean([ours[image] for image in images], axis=0)
        self.here = self.measured(anchor)
        self.factors = np.array([name in FACTORS[suite] for name in self.names])
        self.signs = np.array([1 if info(name).higher_is_better else -1 for name in self.names])

    def measured(self, model: torch.nn.Module) -> np.ndarray:
        """Means of the metrics over the watched pairs, of luma, `(metrics,)`."""
        rows = []
        for a, b in self.pairs:
            images = (a, b, model.fuse(a, b, task="vif").fused)
            pictures = [(255 * x + 0.5).to(torch.uint8) for x in images]
            values = compute(*pictures, self.names, self.convention, color="luma")
            rows.append([float(values[name]) for name in self.names])
        return np.mean(rows, axis=0)

    def estimate(self, model: torch.nn.Module) -> np.ndarray:
        """Means that the model would have on the benchmark, `(metrics,)`."""
        now = self.measured(model)
        return np.where(self.factors, self.there * now / self.here, self.there + now - self.here)

    def of(self, model: torch.nn.Module) -> tuple[float, np.ndarray]:
        """Estimated mean rank, and the rank of every metric."""
        table = -np.vstack([self.published, self.estimate(model)]) * self.signs
        ranks = np.array([rankdata(column)[-1] for column in table.T])
        return float(ranks.mean()), ranks


def main() -> None:
    """Print a row per model and benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+", help="as of benchmarks.py")
    parser.add_argument("--vifb", type=Path, required=True, help="published values of VIFB")
    parser.add_argument("--tno", type=Path, required=True, help="of Tang's sheet, by tno_sheet.py")
    arguments = parser.parse_args()
    pairs, anchor = watched(arguments.data), load_model("tcmoa_pyramid")
    writer = csv.writer(sys.stdout)
    with torch.inference_mode():
        for suite, published in (("vifb", arguments.vifb), ("tno", arguments.tno)):
            standing = Standing(suite, published, anchor, pairs)
            writer.writerow(["benchmark", "model", "mean rank", *standing.names])
            for name, model in map(build, arguments.models):
                mean, ranks = standing.of(model)
                writer.writerow([suite, name, f"{mean:.2f}", *(f"{rank:g}" for rank in ranks)])


if __name__ == "__main__":
    main()
