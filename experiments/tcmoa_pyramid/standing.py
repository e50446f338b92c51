"""Where a model would stand on a benchmark, estimated from other pairs, with a gradient: what `vif` is fitted by.

An anchor is a model whose scores on the benchmark are known. What a metric changes on other pairs against the anchor is added to
the anchor's mean on the benchmark, or multiplies it where the metric is a strength or an error. The mean rank among the published
methods follows, as steps for reading and softened for gradients.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from scipy.stats import rankdata
from torch import Tensor

from fusion import losses
from fusion.job.config import config_dir, plain
from fusion.metrics import Suite, compute, info
from fusion.metrics.inputs import luma

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from published_rank import read

FACTORS = {"vifb": {"ag", "ei", "sd", "sf", "qcv", "rmse", "ce"}, "tno": {"sf", "mse", "vif", "ag"}}
"""Metrics whose change is a factor."""
SOFT = {"ce": losses.soft_cross_entropy, "mi": losses.soft_mutual_information}
"""What gives histograms' metrics a gradient; entropy looks at the fused picture alone."""
COARSE = {"vifb": {"qcb", "qcv"}, "tno": {"qabf"}}
"""Metrics of which the benchmark's own definition has no sound gradient, even without rounding; the clean one lends its own."""


class Standing:
    """Published means of a benchmark, the anchor's there, and estimates of another model's.

    Args:
        suite: "vifb" or "tno".
        published: CSV of published values per picture.
        scores: CSV of the anchor's.
        anchor: its name there.
    """

    def __init__(self, suite: str, published: Path, scores: Path, anchor: str) -> None:
        settings = plain(OmegaConf.load(config_dir() / "metrics" / f"{suite}.yaml"))
        self.suite, self.convention = suite, settings["convention"]
        self.names = [str(column.key).split("@")[0] for column in Suite.from_config(settings).columns]
        ours, (_, theirs) = read(scores)[1][anchor], read(published)
        images = sorted(set(ours).intersection(*(set(values) for values in theirs.values())))
        self.published = np.array([np.mean([v[i] for i in images], axis=0) for v in theirs.values()])
        self.there = torch.from_numpy(np.mean([ours[image] for image in images], axis=0))
        self.factors = torch.tensor([name in FACTORS[suite] for name in self.names])
        self.signs = np.array([1 if info(name).higher_is_better else -1 for name in self.names])
        self.here = self.there

    def measured(self, a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
        """Metrics `(M,)` of luma: the benchmark's values, with gradients of definitions that have one."""
        fused = fused.clamp(0, 1)
        with torch.no_grad():
            pictures = [(255 * x + 0.5).to(torch.uint8) for x in (a, b, fused)]
            true = compute(*pictures, self.names, self.convention, color="luma", dtype=torch.float32)
        values = torch.stack([true[name][0] for name in self.names]).double()
        if not fused.requires_grad:
            return values
        planes = [luma(x) for x in (fused, a, b)]
        made = {name: function(*planes) for name, function in SOFT.items() if name in self.names}
        made["en"] = losses.soft_entropy(planes[0])
        coarse = COARSE[self.suite]
        for names, convention in (
            ([name for name in self.names if name not in made and name not in coarse], self.convention),
            ([name for name in self.names if name in coarse], "exact"),
        ):
            made |= compute(a, b, fused, names, convention, color="luma", dtype=torch.float32, rounded=False)
        smooth = torch.stack([made[name][0] for name in self.names]).double()
        scale = torch.where(self.factors, values / smooth.detach(), 1.0)
        return values + scale * (smooth - smooth.detach())

    def estimate(self, now: Tensor) -> Tensor:
        """Means `(M,)` on the benchmark, from those on the pairs where the anchor has `here`."""
        return torch.where(self.factors, self.there * now / self.here, self.there + now - self.here)

    def ranks(self, now: Tensor) -> np.ndarray:
        """Estimated rank of every metric among the published methods."""
        table = -np.vstack([self.published, self.estimate(now).numpy()]) * self.signs
        return np.array([rankdata(column)[-1] for column in table.T])

    def soft_rank(self, now: Tensor, width: float) -> Tensor:
        """Mean rank with steps as wide as `width` standard deviations of the published means."""
        values = self.estimate(now)
        total = values.new_zeros(())
        for column, value, factor, sign in zip(self.published.T, values, self.factors, self.signs, strict=True):
            others = torch.from_numpy(np.ascontiguousarray(column))
            if factor:
                others, value = others.log(), value.log()
            total = total + 1 + torch.sigmoid(1.7 * int(sign) * (others - value) / (width * others.std())).sum()
        return total / len(values)
