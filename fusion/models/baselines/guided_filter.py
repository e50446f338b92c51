"""Fusion with guided filters."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from fusion.layers.box import box, guided_filter
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput
from fusion.models.tiled import Reach

LUMA = (0.299, 0.587, 0.114)


class GuidedFilter(FusionModel):
    """Two scales, weighed by saliency whose edges follow the sources (GFF: Li, Kang and Hu 2013).

    Args:
        base_radius, base_eps: of the filter of the base's weights (paper: 45, 0.3).
        detail_radius, detail_eps: of the filter of the detail's weights (paper: 7, 1e-6).
        **base: see `FusionModel`.
    """

    fuses_all = True
    bytes_per_pixel = 220

    def __init__(
        self,
        base_radius: int = 45,
        base_eps: float = 0.3,
        detail_radius: int = 7,
        detail_eps: float = 1e-6,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.filters = ((base_radius, base_eps), (detail_radius, detail_eps))
        # The weights' filter is two boxes, of what saliency, seven pixels wide, compares; the base is a box of 31 pixels.
        self.reach = Reach(max(2 * max(base_radius, detail_radius) + 7, 15))

    def forward(self, a: Tensor, b: Tensor, task: str = "vif", **controls: Any) -> FusionOutput:
        """Fuse `(B, 3, H, W)` in [0, 1]; `fused` is clipped."""
        return self.fuse_all([a, b], task)

    def fuse_all(self, images: Sequence[Tensor], task: str = "vif", **controls: Any) -> FusionOutput:
        """The same of any number of sources, as the paper has it (Eq. 5): the most salient one has a pixel's weight."""
        bases = [box(x, 31) for x in images]
        grays = [(x * x.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True) for x in images]
        salient = torch.stack([_saliency(gray) for gray in grays])
        winner = salient.argmax(0)  # the first of equal ones
        wins = [(winner == index).float() for index in range(len(images))]
        parts = []
        for (radius, eps), layers in zip(
            self.filters, (bases, [x - low for x, low in zip(images, bases, strict=True)]), strict=True
        ):
            filtered = zip(grays, wins, strict=True)
            weights = torch.stack([guided_filter(gray, win, radius, eps) for gray, win in filtered]).clamp(0, 1)
            weights = weights / weights.sum(0).clamp_min(1e-6)
            parts.append(sum(weight * layer for weight, layer in zip(weights, layers, strict=True)))
        return FusionOutput(fused=(parts[0] + parts[1]).clamp(0, 1))


def _saliency(gray: Tensor) -> Tensor:
    """Magnitude of the Laplacian, smoothed by 11x11 pixels; `(B, 1, H, W)`."""
    kernel = gray.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    edges = conv2d(pad(gray, (1, 1, 1, 1), mode="replicate"), kernel).abs()
    x = torch.arange(11, device=gray.device, dtype=gray.dtype) - 5
    taps = torch.exp(-(x**2) / (2 * 5.0**2))
    taps = taps / taps.sum()
    blurred = conv2d(pad(edges, (5, 5, 0, 0), mode="replicate"), taps.view(1, 1, 1, 11))
    return conv2d(pad(blurred, (0, 0, 5, 5), mode="replicate"), taps.view(1, 1, 11, 1))
