"""Scores against a ground-truth fusion, for data sets that have one; they are no metrics of a source pair."""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

NAMES = ("reference_psnr", "reference_ssim")
ARROW, DECIMALS = "↑", {"reference_psnr": 2, "reference_ssim": 4}


def full_reference(fused: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """PSNR in dB and SSIM (Wang et al. 2004: Gaussian window of 11, sigma 1.5) of fused images to their references.

    Args:
        fused: `(B, 3 or 1, H, W)` in [0, 1]; rounded to 8 bits first, as files are.
        reference: `(B, 3, H, W)` in [0, 1].

    Returns:
        `reference_psnr` and `reference_ssim`, `(B,)` each; PSNR is infinite for equal images. SSIM is nan where a side is below
        11 pixels.
    """
    found = (fused.expand_as(reference).clamp(0, 1) * 255).round() / 255
    error = (found - reference).square().mean((1, 2, 3))
    psnr = -10 * error.log10()
    if min(reference.shape[-2:]) < 11:
        return {"reference_psnr": psnr, "reference_ssim": torch.full_like(psnr, torch.nan)}
    ssim = structural_similarity_index_measure(found, reference, data_range=1.0, reduction="none")
    return {"reference_psnr": psnr, "reference_ssim": torch.as_tensor(ssim).reshape(-1)}
