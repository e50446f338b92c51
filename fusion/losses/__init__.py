"""Loss terms on (fused, a, b), all on `(B, 3, H, W)` in [0, 1]. They know no paper's weights; the models do."""

from fusion.losses.gradient import color_gradient, max_gradient_l1, strongest
from fusion.losses.intensity import max_pixel_l1, mean_pixel_l1
from fusion.losses.mef_ssim import mef_ssim
from fusion.losses.patches import sharper_patches, sobel_magnitude
from fusion.losses.structure import ssim

__all__ = [
    "color_gradient",
    "max_gradient_l1",
    "max_pixel_l1",
    "mean_pixel_l1",
    "mef_ssim",
    "sharper_patches",
    "sobel_magnitude",
    "ssim",
    "strongest",
]
