"""Training objective of MoE-Fusion (Eq. 5, and the released code where the paper leaves it open)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion import losses as L
from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError
from fusion.models.output import FusionOutput
from fusion.moe.balance import KINDS, balance_loss

BALANCE = {"foreground": 0.01, "background": 0.01, "global": 0.02}
"""Coefficients of the load loss by site (released code)."""
MASKS = ("boxes", "attention")


class MoEFusionLoss(nn.Module):
    """Pixel, gradient and load loss.

    Args:
        alpha: weight of the gradient loss (Sec. 4.1; Fig. 8 sweeps it).
        pixel: weight of the pixel loss.
        mask: where the brighter source is wanted, elsewhere their mean: inside "boxes" (nowhere, if a batch has none), or
            where "attention" exceeds one half.
        balance: which load terms, see `balance_loss`.
        balance_coef: coefficient by site.
        sync_balance: balance over all ranks rather than each for itself.
    """

    def __init__(
        self,
        alpha: float = 10.0,
        pixel: float = 1.0,
        mask: str = "boxes",
        balance: str = "importance_load",
        balance_coef: Mapping[str, float] | None = None,
        sync_balance: bool = True,
    ) -> None:
        super().__init__()
        self.alpha, self.pixel, self.mask = alpha, pixel, mask
        self.balance, self.sync_balance = balance, sync_balance
        self.balance_coef = {**BALANCE, **(balance_coef or {})}

    @staticmethod
    def check_config(config: Mapping[str, object], path: str) -> None:
        """Refuse unknown choices by name."""
        for key, known, default in (("mask", MASKS, "boxes"), ("balance", KINDS, "importance_load")):
            if config.get(key, default) not in known:
                raise ConfigError(f"{path}.{key}={config[key]} is not one of {', '.join(known)}")
        coefficients = config.get("balance_coef")
        if isinstance(coefficients, Mapping) and (unknown := [site for site in coefficients if site not in BALANCE]):
            raise ConfigError(f"{path}.balance_coef: site '{unknown[0]}' is not one of {', '.join(BALANCE)}")

    def forward(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """Weighted terms by name; their sum is the loss.

        Args:
            output: with `luma_a`, `luma_b`, `luma` (fused, not bounded) and `attention`, `(B, 1, H, W)` each, in extras.
            batch: may have `boxes`.
        """
        fused, a, b = (output.extras[name] for name in ("luma", "luma_a", "luma_b"))
        terms = {
            "pixel": self.pixel * L.region_pixel_l1(fused, a, b, self.target_mask(output, batch)),
            "gradient": self.alpha * L.max_sobel_l1(fused, a, b),
        }
        routed = [
            self.balance_coef[site] * balance_loss([routing], self.balance, self.sync_balance)
            for site, routing in zip(output.sites, output.routings, strict=True)
            if routing.weights.shape[1] > 1
        ]
        if routed and self.balance != "none":
            terms["load"] = torch.stack(routed).sum()
        return terms

    def target_mask(self, output: FusionOutput, batch: FusionBatch) -> Tensor:
        """`(B, 1, H, W)`, 1 where the brighter source is wanted."""
        attention = output.extras["attention"]
        if self.mask == "attention":
            return (attention > 0.5).float()
        if "boxes" not in batch:
            return torch.zeros_like(attention)
        return L.box_mask(batch["boxes"], (attention.shape[-2], attention.shape[-1]), attention.device)
