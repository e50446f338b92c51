"""Pretraining of a backbone as a LightningModule."""

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError
from fusion.hub import load_backbone
from fusion.layers.mae import MAE
from fusion.models.mae.identity import start_as_identity
from fusion.models.mae.network import MaskedAutoencoder
from fusion.models.output import FusionOutput
from fusion.models.trained import TrainedModel

LOSSES = ("mse", "log_mse", "log_contrast")
SSIM_C2 = 0.03**2
"""What SSIM adds to variances, for pictures in [0, 1]."""


class MAEPretraining(TrainedModel):
    """Masked autoencoding on both pictures of every pair (He et al. 2022), as a backbone for tuning.

    A fusion model shows its backbone every patch, so half of the batches here hide nothing and the others hide up to
    `mask_ratio[1]` of the patches: the backbone must reconstruct visible patches as well as predict hidden ones.

    Args:
        backbone: what is trained.
        mask_ratio: range the share of hidden patches is drawn from (MAE: 0.75 always).
        full_share: share of the batches that hide nothing (MAE: 0).
        max_zoom: see `MaskedAutoencoder`.
        loss: "mse" (MAE), or "log_mse": a batch counts by its relative error, so that the small errors of batches that hide
            nothing are not lost under the large ones of those that do; or "log_contrast": the same of errors against the
            contrast of their patch as SSIM sees it, which counts noise in flat patches.
        identity_init: start from a backbone that nearly passes pictures through, see `start_as_identity`.
        base: see `TrainedModel`.
    """

    def __init__(
        self,
        backbone: MAE,
        mask_ratio: Sequence[float] = (0.0, 0.75),
        full_share: float = 0.5,
        max_zoom: float = 6.0,
        loss: str = "mse",
        identity_init: bool = True,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if identity_init:
            start_as_identity(backbone)
        load_backbone(backbone)
        self.network = MaskedAutoencoder(backbone, max_zoom)
        self.mask_ratio, self.full_share, self.loss = tuple(mask_ratio), full_share, loss
        self.size_multiple = backbone.grid * backbone.patch_size
        self.example_size = (self.size_multiple, self.size_multiple)

    @staticmethod
    def check_config(config: dict[str, Any]) -> None:
        """Refuse mask ratios outside of [0, 1), and losses that are not known."""
        if (loss := config.get("loss", "mse")) not in LOSSES:
            raise ConfigError(f"model.loss={loss} is not one of {', '.join(LOSSES)}")
        low, high = config.get("mask_ratio", (0.0, 0.75))
        if not 0 <= low <= high < 1:
            raise ConfigError(f"model.mask_ratio=[{low}, {high}] must be a range within [0, 1)")

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", mask_ratio: float = 0.0) -> FusionOutput:
        """Reconstruct source `a`, `(B, 3, S, S)`; `b` is not looked at. For pictures of what the backbone can paint."""
        prediction, mask = self.network(a, mask_ratio)
        return FusionOutput(prediction.clamp(0, 1), extras={"mask": mask})

    def training_terms(self, batch: FusionBatch) -> dict[str, Tensor]:
        """The objective, as `full` for a batch that hides nothing and as `masked` for others."""
        name, error = self._error(batch)
        return {name: self._objective(error)}

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:  # type: ignore[override]
        """Train on the objective and log the squared error, in normalised colors over all patches: the visible ones are to
        be kept as well.
        """
        name, error = self._error(batch)
        self.log(f"train/{name}", error.detach(), batch_size=2 * len(batch["a"]))
        return self._objective(error)

    def _objective(self, error: Tensor) -> Tensor:
        return error if self.loss == "mse" else (error + 1e-6).log()

    def _error(self, batch: FusionBatch) -> tuple[str, Tensor]:
        images = torch.cat([batch["a"], batch["b"]])
        # Drawn from the step, not from a stream, so that a resumed run and every rank draw the same.
        draw = random.Random(f"mask {self.trainer.global_step}")
        full = draw.random() < self.full_share
        prediction, _ = self.network(images, 0.0 if full else draw.uniform(*self.mask_ratio))
        with torch.autocast(images.device.type, enabled=False):
            error = ((prediction - images) / self.network.normalize.std) ** 2
            if self.loss == "log_contrast":
                error = error / (_patch_variance(images, self.network.backbone.patch_size) + SSIM_C2) * SSIM_C2
            return "full" if full else "masked", error.mean()

    def _evaluate(self, batch: FusionBatch) -> FusionOutput:
        """PSNR in dB with nothing hidden, and with three quarters hidden, on the hidden patches alone."""
        images = torch.cat([batch["a"], batch["b"]])
        images = F.interpolate(images, self.example_size, mode="area")
        prediction, _ = self.network(images, 0.0)
        psnr = peak_signal_noise_ratio(prediction.clamp(0, 1), images, data_range=1.0)
        prediction, mask = self.network(images, 0.75)
        hidden = mask.bool().expand_as(images)
        masked = peak_signal_noise_ratio(prediction.clamp(0, 1)[hidden], images[hidden], data_range=1.0)
        stage = "test" if self.trainer.testing else "val"
        values = {f"{stage}/psnr": psnr, f"{stage}/psnr_hidden": masked}
        self.log_dict(values, batch_size=len(images), sync_dist=True)
        return FusionOutput(prediction.clamp(0, 1), extras={"mask": mask})

    def _finish_evaluation(self, stage: str) -> None:
        """Nothing to gather: Lightning averages what `_evaluate` logs."""


def _patch_variance(images: Tensor, size: int) -> Tensor:
    """Variance over the pixels of each patch and color, at every pixel: `(B, 3, H, W)` to the same."""
    mean, square = (F.avg_pool2d(x, size) for x in (images, images.square()))
    return F.interpolate((square - mean.square()).clamp_min(0), scale_factor=size)
