"""Training crops that are not a share of the area: in pixels of the source, or by cutting borders off."""

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fusion.data.files.labels import IGNORE
from fusion.errors import ConfigError


class RandomZoomCrop(v2.Transform):
    """Cuts a square of `size * zoom` source pixels at a random place and resizes it to `size`.

    A share of the area, as in `RandomResizedCrop`, shrinks large pictures a lot and enlarges small ones; this keeps the
    scale of detail alike across data sets.

    Args:
        size: height and width of the result in pixels.
        zoom: range of source pixels per result pixel, drawn log-uniformly; a picture too small for it is cut whole in
            one direction.
        objects: share of the crops that are laid on an object: a random point of a random class of the map, where there is one,
            else the middle of a random box.
    """

    def __init__(self, size: tuple[int, int], zoom: Sequence[float], objects: float = 0.0) -> None:
        super().__init__()
        if not (len(zoom) == 2 and 0 < zoom[0] <= zoom[1]):
            raise ConfigError(f"zoom={list(zoom)}: expected [low, high] with 0 < low <= high.")
        if not 0 <= objects <= 1:
            raise ConfigError(f"objects={objects}: expected a share between 0 and 1.")
        self.size, self.zoom, self.objects = size, tuple(zoom), objects

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the place and the size of the crop."""
        height, width = next(i for i in flat_inputs if isinstance(i, tv_tensors.Image)).shape[-2:]
        low, high = (torch.tensor(z).log() for z in self.zoom)
        zoom = (low + torch.rand(()) * (high - low)).exp().item()
        zoom = min(zoom, height / self.size[0], width / self.size[1])  # shrink to the picture, keeping the aspect
        crop = [max(1, round(side * zoom)) for side in self.size]
        place = _object(flat_inputs) if self.objects and torch.rand(()) < self.objects else None
        corner = []
        for index, side in enumerate((height, width)):
            least, most = 0, side - crop[index]
            if place is not None:  # the crop holds it
                least, most = max(0, place[index] - crop[index] + 1), min(most, place[index])
            corner.append(least + int(torch.randint(most - least + 1, ())))
        top, left = corner
        return {"top": top, "left": left, "height": crop[0], "width": crop[1]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop and resize one input."""
        size = list(self.size)
        mode = F.InterpolationMode.BICUBIC
        cut = self._call_kernel(F.resized_crop, inpt, **params, size=size, interpolation=mode, antialias=True)
        if isinstance(cut, tv_tensors.Image) and cut.stride(0) == 1:
            # A crop that is not resized is a view of the whole picture, whose pixels decoders interleave; copied in that
            # order it is quick to flip and lets go of the rest.
            cut = tv_tensors.wrap(cut.permute(1, 2, 0).contiguous().permute(2, 0, 1), like=cut)
        return cut


def _object(flat_inputs: list[Any]) -> tuple[int, int] | None:
    """Row and column within an object; None where no map and no box has one."""
    for mask in (item for item in flat_inputs if isinstance(item, tv_tensors.Mask)):
        classes = [int(kind) for kind in mask.unique() if int(kind) not in (0, IGNORE)]
        if classes:
            rows = (mask.squeeze() == classes[int(torch.randint(len(classes), ()))]).nonzero()
            row, column = rows[int(torch.randint(len(rows), ()))].tolist()
            return row, column
    for boxes in (item for item in flat_inputs if isinstance(item, tv_tensors.BoundingBoxes)):
        height, width = boxes.canvas_size
        if len(boxes):
            x0, y0, x1, y1 = boxes[int(torch.randint(len(boxes), ()))].tolist()
            return min(max(int((y0 + y1) / 2), 0), height - 1), min(max(int((x0 + x1) / 2), 0), width - 1)
    return None


class RandomBorderCrop(v2.Transform):
    """Cuts up to a share off each of the four sides, independently, and resizes the rest to `size` (CTDNet's recipe).

    Args:
        size: height and width of the result in pixels.
        share: largest share of the height, or width, that is cut off either end.
    """

    def __init__(self, size: tuple[int, int], share: float) -> None:
        super().__init__()
        if not 0 <= share < 0.5:
            raise ConfigError(f"border={share}: expected a share of at least 0 and below 0.5.")
        self.size, self.share = size, share

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw what is cut off."""
        height, width = next(i for i in flat_inputs if isinstance(i, tv_tensors.Image)).shape[-2:]
        cuts = (self.share * torch.rand(4)).tolist()
        top, left = int(cuts[0] * height), int(cuts[1] * width)
        bottom, right = int(cuts[2] * height), int(cuts[3] * width)
        return {"top": top, "left": left, "height": height - top - bottom, "width": width - left - right}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop and resize one input."""
        mode = F.InterpolationMode.BICUBIC
        return self._call_kernel(
            F.resized_crop, inpt, **params, size=list(self.size), interpolation=mode, antialias=True
        )
