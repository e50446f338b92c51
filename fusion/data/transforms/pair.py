"""Transforms that treat every image of a pair alike, on uint8 and before anything is converted to float."""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import ops, tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fusion.data.batch import IMAGE_KEYS
from fusion.data.sample import Sample
from fusion.data.seeds import derive_seed
from fusion.data.transforms.crops import RandomBorderCrop, RandomZoomCrop
from fusion.data.transforms.sensor import RandomSensor
from fusion.errors import ConfigError

_MASKS = ("mask", "near")  # classes; the near layer of a scene whose focus is to be made
_BICUBIC = F.InterpolationMode.BICUBIC
MIN_BOX_AREA = 0.1
"""Share of its area that a box keeps at least; what YOLOv5 asks of cut boxes."""

_global_generator = threading.Lock()  # threads that prepare data must not lend it to each other


def _unlock() -> None:
    global _global_generator
    _global_generator = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_unlock)  # a thread that held it does not exist in a forked worker


class PairTransform:
    """Applies one torchvision v2 transform to all images (and mask and boxes) of a sample with one draw of parameters.

    All randomness comes from the seed handed in, so a sample does not depend on workers, ranks or the past.

    Args:
        transform: what is applied.
        min_box_area: share of its area that a box must keep when it is cut; boxes that keep less go, with their labels.
        swap: probability that the sources change places.

    Raises:
        ConfigError: a share or probability is not in [0, 1].
    """

    def __init__(self, transform: v2.Transform, min_box_area: float = MIN_BOX_AREA, swap: float = 0.0) -> None:
        if not 0 <= min_box_area <= 1:
            raise ConfigError(f"min_box_area={min_box_area}: expected a share between 0 and 1.")
        if not 0 <= swap <= 1:
            raise ConfigError(f"swap={swap}: expected a probability between 0 and 1.")
        self.transform = transform
        self.min_box_area = min_box_area
        self.swap = swap

    def __call__(self, sample: Sample, seed: int = 0) -> Sample:
        """A new sample; its input stays as it was."""
        return self.exchange(self.change(sample, seed), seed)

    def exchange(self, sample: Sample, seed: int = 0) -> Sample:
        """The sources, and the auxiliary ones with them, in each other's place, as often as `swap` says."""
        draw = torch.rand((), generator=torch.Generator().manual_seed(derive_seed("swap", seed)))
        if float(draw) >= self.swap:
            return sample
        result = {**sample}
        for first, second in (("a", "b"), ("auxiliary_a", "auxiliary_b")):
            if first in sample:
                result[first], result[second] = sample[second], sample[first]
        return result

    def change(self, sample: Sample, seed: int = 0) -> Sample:
        """Crop, flip and whatever else the transform does, but leave the sources in their places."""
        height_width = tuple(sample["a"].shape[-2:])
        wrapped: dict[str, Any] = {key: tv_tensors.Image(sample[key]) for key in IMAGE_KEYS if key in sample}
        wrapped |= {key: tv_tensors.Mask(sample[key]) for key in _MASKS if key in sample}
        if "boxes" in sample:  # not clamped on the way, so that afterwards it shows how much of each is left
            wrapped["boxes"] = tv_tensors.BoundingBoxes(
                sample["boxes"], format="XYXY", canvas_size=height_width, clamping_mode=None
            )
        # torchvision draws from the global generator: lend it our seed. Not torch.manual_seed, which would also reset
        # the generators of the accelerators, on which the models draw.
        with _global_generator, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            changed = self.transform(wrapped)
        result = {**sample, **{key: _plain(value) for key, value in changed.items()}}
        if "boxes" in sample:
            result["boxes"], kept = self._clip(result["boxes"], tuple(result["a"].shape[-2:]))
            result["labels"] = sample["labels"][kept]
        return result

    def _clip(self, boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Boxes `(n, 4)` clipped to the image, those with enough left; and which of the given ones these are."""
        clipped = ops.clip_boxes_to_image(boxes, size)
        area, left = ops.box_area(boxes), ops.box_area(clipped)
        kept = ((left >= self.min_box_area * area) & (left >= 1)).nonzero()[:, 0]
        return clipped[kept], kept

    def __repr__(self) -> str:
        return f"PairTransform({self.transform})"


def train_transform(
    crop_size: int | Sequence[int] | None = 448,
    scale: Sequence[float] = (0.2, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    hflip: float = 0.5,
    vflip: float = 0.0,
    rot90: bool = False,
    zoom: Sequence[float] | None = None,
    objects: float = 0.0,
    resize: int | Sequence[int] | None = None,
    border: float | None = None,
    min_box_area: float = MIN_BOX_AREA,
    sensor: Mapping[str, Any] | None = None,
    swap: float = 0.0,
) -> PairTransform:
    """Random resized crop and flips, as the TC-MoA recipe augments (official data loaders).

    Args:
        crop_size: side, or height and width, of the result in pixels; smaller images are enlarged. None: no crop, only
            `resize` and the turns.
        scale: range of the cropped share of the area.
        ratio: range of the cropped aspect ratio (width / height).
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        rot90: rotate by a random multiple of 90 degrees; needs a square crop.
        zoom: crop by source pixels per crop pixel, see `RandomZoomCrop`, in place of `scale` and `ratio`.
        objects: share of the crops by `zoom` that are laid on an object of the boxes or the map.
        resize: height and width, or shorter side, that the whole image is resized to first.
        border: crop by cutting up to this share off every side, see `RandomBorderCrop`, in place of `scale` and `ratio`.
        min_box_area: share of its area that a box must keep, see `PairTransform`.
        sensor: settings of `RandomSensor`, which changes each source by itself; None leaves them as they are.
        swap: probability that the sources change places, so that a model must go by what it sees in them.

    Raises:
        ConfigError: a value out of range.
    """
    steps: list[v2.Transform] = []
    if resize is not None:
        sides = _sides(resize)
        steps.append(v2.Resize(sides, interpolation=_BICUBIC, antialias=True))
    if crop_size is None and rot90 and (resize is None or len(sides) != 2 or sides[0] != sides[1]):
        raise ConfigError("rot90=true without crop_size needs a square resize, [side, side].")
    if crop_size is not None:
        steps.append(_crop(_size(crop_size), scale, ratio, rot90, zoom, border, objects))
    for key, probability, flip in (("hflip", hflip, v2.RandomHorizontalFlip), ("vflip", vflip, v2.RandomVerticalFlip)):
        if not 0 <= probability <= 1:
            raise ConfigError(f"{key}={probability}: expected a probability between 0 and 1.")
        if probability > 0:
            steps.append(flip(probability))
    if rot90:
        steps.append(RandomQuarterTurn())
    if sensor is not None:
        steps.append(RandomSensor(**sensor))
    return PairTransform(v2.Compose(steps) if steps else v2.Identity(), min_box_area, swap)


def _crop(
    size: tuple[int, int],
    scale: Sequence[float],
    ratio: Sequence[float],
    rot90: bool,
    zoom: Sequence[float] | None,
    border: float | None,
    objects: float,
) -> v2.Transform:
    if not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
        raise ConfigError(f"scale={list(scale)}: expected [low, high] with 0 < low <= high <= 1.")
    if not (len(ratio) == 2 and 0 < ratio[0] <= ratio[1]):
        raise ConfigError(f"ratio={list(ratio)}: expected [low, high] with 0 < low <= high.")
    if rot90 and size[0] != size[1]:
        raise ConfigError(f"rot90=true needs a square crop, but crop_size is {size[0]}x{size[1]}.")
    if zoom is not None and border is not None:
        raise ConfigError(f"zoom={list(zoom)} and border={border}: give one of them.")
    if objects and zoom is None:
        raise ConfigError(f"objects={objects} needs zoom=[low, high].")
    if zoom is not None:
        return RandomZoomCrop(size, zoom, objects)
    if border is not None:
        return RandomBorderCrop(size, border)
    return v2.RandomResizedCrop(size, tuple(scale), tuple(ratio), interpolation=_BICUBIC, antialias=True)


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
        steps.append(v2.Resize(_sides(resize), interpolation=_BICUBIC, antialias=True))
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


def _sides(size: int | Sequence[int]) -> list[int]:
    sides = [size] if isinstance(size, int) else list(size)
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ConfigError(f"resize={size}: expected a positive number of pixels, or [height, width].")
    return sides


def _size(size: int | Sequence[int]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ConfigError(f"crop size {size}: expected a positive number of pixels, or [height, width].")
    return int(sides[0]), int(sides[1])


def _plain(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, Tensor) else value
