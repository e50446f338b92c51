"""Loss terms on (fused, a, b), all on `(B, 3, H, W)` in [0, 1]. They know no paper's weights; the models do."""

from fusion.losses.edges import edge_preservation
from fusion.losses.gradient import color_gradient, max_gradient_l1, sobel_magnitude, strongest
from fusion.losses.information import soft_cross_entropy, soft_entropy, soft_mutual_information
from fusion.losses.intensity import max_pixel_l1, mean_pixel_l1
from fusion.losses.mef_ssim import mef_ssim
from fusion.losses.patches import sharper_patches
from fusion.losses.regions import box_mask, max_sobel_l1, region_pixel_l1
from fusion.losses.structure import ssim
from fusion.losses.tone import (
    dull_targets,
    inverted_tone,
    out_of_range,
    roughness,
    salient_mean,
    tone_distance,
)

__all__ = [
    "box_mask",
    "color_gradient",
    "dull_targets",
    "edge_preservation",
    "inverted_tone",
    "max_gradient_l1",
    "max_pixel_l1",
    "max_sobel_l1",
    "mean_pixel_l1",
    "mef_ssim",
    "out_of_range",
    "region_pixel_l1",
    "roughness",
    "salient_mean",
    "sharper_patches",
    "sobel_magnitude",
    "soft_cross_entropy",
    "soft_entropy",
    "soft_mutual_information",
    "ssim",
    "strongest",
    "tone_distance",
]
