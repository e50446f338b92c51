"""Loss terms on (fused, a, b), all on `(B, 3, H, W)` in [0, 1]. They know no paper's weights; the models do."""

from fusion.losses.edges import edge_preservation
from fusion.losses.gradient import color_gradient, max_gradient_l1, sobel_magnitude, strongest
from fusion.losses.intensity import max_pixel_l1, mean_pixel_l1
from fusion.losses.mef_ssim import mef_ssim
from fusion.losses.patches import sharper_patches
from fusion.losses.regions import box_mask, max_sobel_l1, region_pixel_l1
from fusion.losses.structure import ssim

__all__ = [
    "box_mask",
    "color_gradient",
    "edge_preservation",
    "max_gradient_l1",
    "max_pixel_l1",
    "max_sobel_l1",
    "mean_pixel_l1",
    "mef_ssim",
    "region_pixel_l1",
    "sharper_patches",
    "sobel_magnitude",
    "ssim",
    "strongest",
]
