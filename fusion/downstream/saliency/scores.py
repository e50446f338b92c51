"""Scores of saliency maps: mean F-measure, mean absolute error, E-measure.

Definitions as in the toolboxes that papers on salient objects use: maps of 256 levels, each stretched to [0, 1].
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from fusion.data.batch import FusionBatch
from fusion.downstream.labels import masks_of

BETA2 = 0.3
EPS = 2.220446049250313e-16


class SaliencyScores(Metric):
    """Means over images of measures at 256 thresholds.

    Gives `mean_f` (mF_beta of T-OAR's tables), `max_f`, `adaptive_f`, `mae`, `mean_e` (E_m), `max_e` and `adaptive_e`.
    """

    full_state_update = False
    f_curve: Tensor
    e_curve: Tensor
    single: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("f_curve", torch.zeros(256, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("e_curve", torch.zeros(256, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("single", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")  # mae, adaptive F and E
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, prediction: Tensor, batch: FusionBatch) -> None:
        """Add predictions for a batch, see `update`; uncounted pixels (255) are background."""
        self.to(prediction.device)
        self.update(prediction, masks_of(batch) == 1)

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Add images.

        Args:
            prediction: `(B, H, W)` in [0, 1], or uint8; rounded to 256 levels, as if it were written to files.
            mask: `(B, H, W)` bool.
        """
        levels = prediction if prediction.dtype == torch.uint8 else (prediction.double() * 255).round().to(torch.uint8)
        for image, truth in zip(levels, mask.to(levels.device).bool(), strict=True):
            self._add_image(image, truth)

    def _add_image(self, levels: Tensor, truth: Tensor) -> None:
        values = levels.double() / 255
        low, high = values.min(), values.max()
        values = torch.where(high != low, (values - low) / torch.where(high != low, high - low, 1.0), values)
        bins = (values * 255).to(torch.uint8).long()
        salient = torch.bincount(bins[truth], minlength=256).flip(0).cumsum(0).double()  # at or above 255, 254, ... 0
        other = torch.bincount(bins[~truth], minlength=256).flip(0).cumsum(0).double()
        positives = truth.sum().double()
        self.f_curve += f_measure(salient, salient + other, positives)
        self.e_curve += e_measure(salient, salient + other, positives, truth.numel())
        above = values >= (2 * values.mean()).clamp_max(1)
        hits, found = (above & truth).sum().double(), above.sum().double()
        mae = (values - truth.double()).abs().mean()
        adaptive = (f_measure(hits, found, positives), e_measure(hits, found, positives, truth.numel()))
        self.single += torch.stack([mae, *adaptive])
        self.count += 1

    def compute(self) -> dict[str, float | None]:
        """Scores by name."""
        f_curve, e_curve = self.f_curve / self.count, self.e_curve / self.count
        mae, adaptive_f, adaptive_e = (self.single / self.count).tolist()
        return {
            "mean_f": f_curve.mean().item(),
            "max_f": f_curve.max().item(),
            "adaptive_f": adaptive_f,
            "mae": mae,
            "mean_e": e_curve.mean().item(),
            "max_e": e_curve.max().item(),
            "adaptive_e": adaptive_e,
        }


def f_measure(hits: Tensor, found: Tensor, positives: Tensor) -> Tensor:
    """F-measure with beta squared 0.3 (Achanta et al. 2009) from numbers of pixels; 0 without a hit."""
    precision, recall = hits / found.clamp_min(1), hits / positives.clamp_min(1)
    weighed = (1 + BETA2) * precision * recall
    return weighed / torch.where(weighed == 0, 1.0, BETA2 * precision + recall)


def e_measure(hits: Tensor, found: Tensor, positives: Tensor, pixels: int) -> Tensor:
    """Enhanced-alignment measure (Fan et al. 2018) from numbers of pixels."""
    rest = pixels - found
    if positives == 0:
        return rest / (pixels - 1 + EPS)
    if positives == pixels:
        return found / (pixels - 1 + EPS)
    mean_found, mean_true = found / pixels, positives / pixels
    missed = positives - hits
    total = torch.zeros_like(found)
    for count, a, b in (
        (hits, 1 - mean_found, 1 - mean_true),
        (found - hits, 1 - mean_found, -mean_true),
        (missed, -mean_found, 1 - mean_true),
        (rest - missed, -mean_found, -mean_true),
    ):
        aligned = 2 * a * b / (a**2 + b**2 + EPS)
        total = total + count * (aligned + 1) ** 2 / 4
    return total / (pixels - 1 + EPS)
