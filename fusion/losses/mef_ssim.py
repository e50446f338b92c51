"""MEF-SSIM as a training term (Ma et al. 2020, MEF-Net): structure of the source with more contrast, well-exposed luminance."""

import torch
from einops import rearrange
from torch import Tensor

from fusion.losses.structure import C1, C2, blur, gaussian_window

SIGMA_GLOBAL = SIGMA_LOCAL = 0.2
BATCHES = ("stacked", "per_sample")


def mef_ssim(
    fused: Tensor, a: Tensor, b: Tensor, batch: str = "stacked", luminance: bool = True, size: int = 11
) -> Tensor:
    """Single-scale MEF-SSIM: mean luminance times mean contrast-structure.

    Args:
        fused, a, b: `(B, C, H, W)` in [0, 1].
        batch: "stacked" joins the batch to one tall image, as the released TC-MoA code does: windows then straddle
            neighbours and the global exposure is the batch's. "per_sample" treats every image for itself.
        luminance: include the luminance term.
        size: side of the Gaussian window; its sigma is size / 6.

    Returns:
        Scalar, at most 1.
    """
    if batch not in BATCHES:
        raise ValueError(f"mef_ssim batch '{batch}' is not one of {', '.join(BATCHES)}")
    if batch == "stacked":
        fused, a, b = (rearrange(x, "b c h w -> 1 c (b h) w") for x in (fused, a, b))
    window = gaussian_window(size, size / 6, fused)

    def local_mean(x: Tensor) -> Tensor:  # (B, 1, H, W), the channels share one window
        return blur(x.mean(1, keepdim=True), window)

    sources = torch.stack([a, b])  # (2, B, C, H, W)
    mu_f, mu_s = local_mean(fused), torch.stack([local_mean(a), local_mean(b)])
    var_f = local_mean(fused * fused) - mu_f**2
    var_s = torch.stack([local_mean(a * a), local_mean(b * b)]) - mu_s**2
    cov = torch.stack([local_mean(fused * s) for s in sources]) - mu_f * mu_s
    structure = (2 * cov + C2) / (var_f + var_s + C2)
    structure = torch.where(var_s[0] >= var_s[1], structure[0], structure[1]).mean((1, 2, 3))
    if not luminance:
        return structure.mean()
    exposure = mu_s.mean((2, 3, 4), keepdim=True)
    weights = torch.exp(-((exposure - 0.5) ** 2) / (2 * SIGMA_GLOBAL**2) - (mu_s - 0.5) ** 2 / (2 * SIGMA_LOCAL**2))
    target = (weights * mu_s).sum(0) / weights.sum(0)
    light = ((2 * mu_f * target + C1) / (mu_f**2 + target**2 + C1)).mean((1, 2, 3))
    return (light * structure).mean()
