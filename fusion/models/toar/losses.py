"""The loss of stage one, Eqs. 3-5."""

import torch
from torch import Tensor, nn

from fusion.losses import max_pixel_l1
from fusion.losses.regions import max_sobel_l1


class BrightnessGradientLoss(nn.Module):
    """L1 to the brighter source, and L1 of the gradient to the stronger of the sources' gradients.

    Args:
        brightness: weight of the first term, lambda (Sec. 4.2).
        gradient: weight of the second.
    """

    def __init__(self, brightness: float = 0.2, gradient: float = 1.0) -> None:
        super().__init__()
        self.brightness, self.gradient = brightness, gradient

    def forward(self, fused: Tensor, infrared: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """Weighted terms of luma images `(B, 1, H, W)` in [0, 1]."""
        with torch.autocast(fused.device.type, enabled=False):
            fused, infrared, visible = fused.float(), infrared.float(), visible.float()
            return {
                "brightness": self.brightness * max_pixel_l1(fused, infrared, visible),
                "gradient": self.gradient * max_sobel_l1(fused, infrared, visible),
            }
