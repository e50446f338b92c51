"""Training pairs as other cameras would have taken them: each source with its own noise, contrast and color."""

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fusion.errors import ConfigError

MOST = 8
"""Largest displacement in pixels."""


class RandomSensor(v2.Transform):
    """Changes every image by itself, so that the sources of a pair differ in what they do; masks and boxes stay.

    For sets whose cameras are not those of the pictures to be fused (clean color images in training, noisy gray ones in TNO). A
    reference image would be changed as well: not for sets that have one.

    Args:
        share: probability that an image is changed at all.
        noise: largest standard deviation of the noise, of a range of 1; drawn uniformly from 0 on.
        grain: range of the noise's grain in pixels, drawn uniformly; coarse noise is that of enlarged video.
        contrast: range of the factor on the distance from the mean.
        gray: probability that a changed image loses its color.
        shift: largest displacement along each axis in pixels, drawn uniformly: cameras that are not quite aligned.
        jpeg: range of the quality of a JPEG file that the image has been; None: it has been none.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self,
        share: float = 0.5,
        noise: float = 0.04,
        grain: Sequence[float] = (1.0, 2.0),
        contrast: Sequence[float] = (0.7, 1.3),
        gray: float = 0.5,
        shift: float = 0.0,
        jpeg: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        for key, value in (("share", share), ("noise", noise), ("gray", gray)):
            if not 0 <= value <= 1:
                raise ConfigError(f"data.sensor: {key}={value}: expected a number between 0 and 1.")
        for key, (low, high), least in (("grain", grain, 1), ("contrast", contrast, 0)):
            if not least <= low <= high:
                raise ConfigError(f"data.sensor: {key}={[low, high]}: expected [low, high], {least} <= low <= high.")
        if not 0 <= shift <= MOST:
            raise ConfigError(f"data.sensor: shift={shift}: expected pixels between 0 and {MOST}.")
        if jpeg is not None and not (len(jpeg) == 2 and 1 <= jpeg[0] <= jpeg[1] <= 100):
            raise ConfigError(f"data.sensor: jpeg={list(jpeg)}: expected [low, high], 1 <= low <= high <= 100.")
        self.shift, self.jpeg = shift, jpeg
        self.share, self.noise, self.grain, self.contrast, self.gray = share, noise, grain, contrast, gray

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change one image, uint8 `(3, H, W)`."""
        if not isinstance(inpt, tv_tensors.Image) or torch.rand(()) >= self.share:
            return inpt
        image = F.adjust_contrast(inpt, _uniform(*self.contrast))
        if torch.rand(()) < self.gray:
            image = F.rgb_to_grayscale(image, num_output_channels=3)
        height, width = image.shape[-2:]
        grain = _uniform(*self.grain)
        coarse = [max(1, round(side / grain)) for side in (height, width)]
        noise = torch.randn(1, *coarse)  # in luma alone, as most of a sensor's is
        noise = F.resize(noise, [height, width], antialias=False)
        noise *= 255 * _uniform(0, self.noise) / noise.std().clamp_min(1e-6)
        image = (_shifted(image, self.shift) + noise).round_().clamp_(0, 255).to(torch.uint8)
        if self.jpeg is not None:
            image = F.jpeg(image, round(_uniform(*self.jpeg)))
        return tv_tensors.wrap(image, like=inpt)


def _shifted(image: torch.Tensor, most: float) -> torch.Tensor:
    if most == 0:
        return image
    rows, columns = (_uniform(-most, most) for _ in range(2))
    wide = F.pad(image, [MOST] * 4, padding_mode="edge")
    moved = F.affine(wide, 0.0, [columns, rows], 1.0, [0.0, 0.0], interpolation=v2.InterpolationMode.BILINEAR)
    return moved[..., MOST:-MOST, MOST:-MOST]


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
