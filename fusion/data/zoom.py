"""Training crops measured in pixels of the source, for sets whose pictures differ widely in size."""

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fusion.errors import ConfigError


class RandomZoomCrop(v2.Transform):
    """Cuts a square of `size * zoom` source pixels at a random place and resizes it to `size`.

    A share of the area, as in `RandomResizedCrop`, shrinks large pictures a lot and enlarges small ones; this keeps the
    scale of detail alike across data sets.

    Args:
        size: height and width of the result in pixels.
        zoom: range of source pixels per result pixel, drawn log-uniformly; a picture too small for it is cut whole in
            one direction.
    """

    def __init__(self, size: tuple[int, int], zoom: Sequence[float]) -> None:
        super().__init__()
        if not (len(zoom) == 2 and 0 < zoom[0] <= zoom[1]):
            raise ConfigError(f"zoom={list(zoom)}: expected [low, high] with 0 < low <= high.")
        self.size, self.zoom = size, tuple(zoom)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the place and the size of the crop."""
        height, width = next(i for i in flat_inputs if isinstance(i, tv_tensors.Image)).shape[-2:]
        low, high = (torch.tensor(z).log() for z in self.zoom)
        zoom = (low + torch.rand(()) * (high - low)).exp().item()
        zoom = min(zoom, height / self.size[0], width / self.size[1])  # shrink to the picture, keeping the aspect
        crop = [max(1, round(side * zoom)) for side in self.size]
        top, left = (int(torch.randint(side - c + 1, ())) for side, c in zip((height, width), crop, strict=True))
        return {"top": top, "left": left, "height": crop[0], "width": crop[1]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop and resize one input."""
        size = list(self.size)
        mode = F.InterpolationMode.BICUBIC
        return self._call_kernel(F.resized_crop, inpt, **params, size=size, interpolation=mode, antialias=True)
