"""Transforms that treat every image of a pair alike, on uint8 and before anything is converted to float."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fusion.data.dataset import Sample
from fusion.data.zoom import RandomZoomCrop
from fusion.errors import ConfigError

_IMAGES = ("a", "b", "reference")
_BICUBIC = F.InterpolationMode.BICUBIC


class PairTransform:
    """Applies one torchvision v2 transform to all images (and mask and boxes) of a sample with one draw of parameters.

    All randomness comes from the seed handed in, so a sample does not depend on workers, ranks or the past.
    """

    def __init__(self, transform: v2.Transform) -> None:
        self.transform = transform
        self._clamp, self._sanitize = v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes()

    def __call__(self, sample: Sample, seed: int = 0) -> Sample:
        """A new sample; its input stays as it was."""
        height_width = tuple(sample["a"].shape[-2:])
        wrapped: dict[str, Any] = {key: tv_tensors.Image(sample[key]) for key in _IMAGES if key in sample}
        if "mask" in sample:
            wrapped["mask"] = tv_tensors.Mask(sample["mask"])
        if "boxes" in sample:
            wrapped["boxes"] = tv_tensors.BoundingBoxes(sample["boxes"], format="XYXY", canvas_size=height_width)
            wrapped["labels"] = sample["labels"]
        # torchvision draws from the global generator: lend it our seed. Not torch.manual_seed, which would also reset
        # the generators of the accelerators, on which the models draw.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            changed = self.transform(wrapped)
        if "boxes" in changed:
            changed = self._sanitize(self._clamp(changed))
        return {**sample, **{key: _plain(value) for key, value in changed.items()}}

    def __repr__(self) -> str:
        return f"PairTransform({self.transform})"


def train_transform(
    crop_size: int | Sequence[int] = 448,
    scale: Sequence[float] = (0.2, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    hflip: float = 0.5,
    vflip: float = 0.0,
    rot90: bool = False,
    zoom: Sequence[float] | None = None,
) -> PairTransform:
    """Random resized crop and flips, as the TC-MoA recipe augments (official data loaders).

    Args:
        crop_size: side, or height and width, of the result in pixels; smaller images are enlarged.
        scale: range of the cropped share of the area.
        ratio: range of the cropped aspect ratio (width / height).
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        rot90: rotate by a random multiple of 90 degrees; needs a square crop.
        zoom: crop by source pixels per crop pixel, see `RandomZoomCrop`, in place of `scale` and `ratio`.

    Raises:
        ConfigError: a value out of range.
    """
    size = _size(crop_size)
    if not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
        raise ConfigError(f"scale={list(scale)}: expected [low, high] with 0 < low <= high <= 1.")
    if not (len(ratio) == 2 and 0 < ratio[0] <= ratio[1]):
        raise ConfigError(f"ratio={list(ratio)}: expected [low, high] with 0 < low <= high.")
    if rot90 and size[0] != size[1]:
        raise ConfigError(f"rot90=true needs a square crop, but crop_size is {size[0]}x{size[1]}.")
    steps: list[v2.Transform] = [
        v2.RandomResizedCrop(size, tuple(scale), tuple(ratio), interpolation=_BICUBIC, antialias=True)
        if zoom is None
        else RandomZoomCrop(size, zoom)
    ]
    for key, probability, flip in (("hflip", hflip, v2.RandomHorizontalFlip), ("vflip", vflip, v2.RandomVerticalFlip)):
        if not 0 <= probability <= 1:
            raise ConfigError(f"{key}={probability}: expected a probability between 0 and 1.")
        if probability > 0:
            steps.append(flip(probability))
    if rot90:
        steps.append(RandomQuarterTurn())
    return PairTransform(v2.Compose(steps))


def eval_transform(
    resize: int | Sequence[int] | None = None,
    center_crop: int | Sequence[int] | None = None,
    multiple: int | None = None,
) -> PairTransform | None:
    """What evaluation does to whole images: nothing by default, else these in order, none of it random.

    Args:
        resize: height and width to resize to, or one number for the shorter side.
        center_crop: cut the centre of at most this size; smaller sides stay as they are.
        multiple: cut the centre down to a multiple of this many pixels per side; smaller sides stay as they are.
    """
    steps: list[v2.Transform] = []
    if resize is not None:
        sides = [resize] if isinstance(resize, int) else list(resize)
        steps.append(v2.Resize(sides, interpolation=_BICUBIC, antialias=True))
    if center_crop is not None:
        steps.append(CenterCropAtMost(_size(center_crop)))
    if multiple is not None:
        steps.append(CropToMultiple(multiple))
    return PairTransform(v2.Compose(steps)) if steps else None


class RandomQuarterTurn(v2.Transform):
    """Rotates by 0, 90, 180 or 270 degrees, equally likely."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the number of quarter turns."""
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Rotate one input."""
        return self._call_kernel(F.rotate, inpt, angle=90.0 * params["turns"], expand=True)


class CenterCropAtMost(v2.Transform):
    """Cuts the centre, never pads."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Size of the crop for images of this size."""
        height, width = _height_width(flat_inputs)
        return {"output_size": [min(height, self.size[0]), min(width, self.size[1])]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop one input."""
        return self._call_kernel(F.center_crop, inpt, **params)


class CropToMultiple(CenterCropAtMost):
    """Cuts the centre so that both sides are multiples of a number, unless the image is smaller than that."""

    def __init__(self, multiple: int) -> None:
        if multiple < 1:
            raise ConfigError(f"multiple={multiple}: expected a positive number of pixels.")
        super().__init__((multiple, multiple))
        self.multiple = multiple

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Size of the crop for images of this size."""
        return {"output_size": [side // self.multiple * self.multiple or side for side in _height_width(flat_inputs)]}


def _height_width(flat_inputs: list[Any]) -> tuple[int, int]:
    height, width = next(i for i in flat_inputs if isinstance(i, tv_tensors.Image)).shape[-2:]
    return height, width


def _size(size: int | Sequence[int]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ConfigError(f"crop size {size}: expected a positive number of pixels, or [height, width].")
    return int(sides[0]), int(sides[1])


def _plain(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, Tensor) else value
