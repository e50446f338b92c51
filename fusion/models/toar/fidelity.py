"""What keeps tailored images natural (ours, an option): near to plain fusion, and without detail that no source has."""

import torch
from torch import Tensor

from fusion.errors import ConfigError
from fusion.losses.gradient import sobel_magnitude
from fusion.parts import Part


class Fidelity(Part):
    """Two terms beside the loss of a task's network, which alone says nothing of how an image looks.

    Args:
        tone: weight of the L1 distance to plain fusion.
        detail: weight of the mean gradient (Sobel) beyond the strongest of both sources and plain fusion: stripes and dots that
            please a network are detail of none of them.

    Raises:
        ConfigError: a negative weight.
    """

    def __init__(self, tone: float = 0.5, detail: float = 0.5) -> None:
        if tone < 0 or detail < 0:
            raise ConfigError(f"model.fidelity: tone={tone}, detail={detail}: expected weights of 0 and more")
        self.tone, self.detail = tone, detail

    def __call__(self, fused: Tensor, plain: Tensor, infrared: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """Weighted terms "tone" and "detail" of luma images `(B, 1, H, W)` in [0, 1]."""
        with torch.autocast(fused.device.type, enabled=False):
            fused, plain = fused.float(), plain.float()
            known = torch.stack([sobel_magnitude(image.float()) for image in (plain, infrared, visible)]).amax(0)
            return {
                "tone": self.tone * (fused - plain).abs().mean(),
                "detail": self.detail * (sobel_magnitude(fused) - known).relu().mean(),
            }
