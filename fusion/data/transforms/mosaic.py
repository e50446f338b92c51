"""Four pairs in one picture: the mosaic that YOLOv5 trains detectors on, the same for both sources."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_area, clip_boxes_to_image
from torchvision.transforms.v2 import functional as F

from fusion.data.sample import Sample
from fusion.data.transforms.pair import MIN_BOX_AREA

GRAY = 114
"""Where no picture is (YOLOv5)."""
CENTER = (0.5, 1.5)
"""Where the four meet, in sides of the result, on a canvas of two by two (YOLOv5)."""
SCALE, TRANSLATE = 0.5, 0.1
"""How far the window's scale leaves 1 and its place the middle (YOLOv5, hyp.scratch-low)."""
MIN_SIDE = 2
"""Pixels that a box keeps at least per side (YOLOv5)."""


def mosaic(samples: Sequence[Sample], side: int, generator: torch.Generator) -> Sample:
    """Four samples around one corner, of which a window of random scale and place is cut.

    Each is resized so that its longer side is `side`, and meets the others at a random place of a canvas of twice that;
    the window is `side / scale` wide, and resized to `side`. What no picture covers is gray.

    Args:
        samples: four with `a`, `b`, `boxes` and `labels`; pairs without boxes count as empty of them.
        side: height and width of the result in pixels.
        generator: all that is random is drawn from it.

    Returns:
        A sample of `a`, `b` `(3, side, side)`, `boxes` and `labels`; the rest is the first one's, and a source counts as
        gray where all four are.
    """

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    x, y = (round(side * draw(*CENTER)) for _ in "xy")
    scale = draw(1 - SCALE, 1 + SCALE)
    left, top = (side - side * draw(0.5 - TRANSLATE, 0.5 + TRANSLATE) / scale for _ in "xy")
    margin = math.ceil(side * 2 * TRANSLATE) + 1  # how far the widest window reaches beyond the canvas
    canvas = {key: torch.full((3, *[2 * (side + margin)] * 2), GRAY, dtype=torch.uint8) for key in "ab"}
    boxes, labels = [], []
    for place, sample in enumerate(samples):
        height, width = sample["a"].shape[-2:]
        factor = side / max(height, width)
        size = [max(1, round(height * factor)), max(1, round(width * factor))]
        x0, y0 = (x if place % 2 else x - size[1]), (y if place // 2 else y - size[0])
        columns, rows = _seen(x0, size[1], 2 * side), _seen(y0, size[0], 2 * side)
        for key, whole in canvas.items():
            image = F.resize(sample[key], size, F.InterpolationMode.BILINEAR, antialias=True)
            target = whole[:, margin + rows[0] : margin + rows[1], margin + columns[0] : margin + columns[1]]
            target.copy_(image[:, rows[0] - y0 : rows[1] - y0, columns[0] - x0 : columns[1] - x0])
        if "boxes" in sample:
            stretch = torch.tensor([size[1] / width, size[0] / height] * 2)
            boxes.append(
                clip_boxes_to_image(sample["boxes"] * stretch + torch.tensor([x0, y0] * 2), (2 * side, 2 * side))
            )
            labels.append(sample["labels"])
    window = [round(margin + top), round(margin + left), *[max(1, round(side / scale))] * 2]
    cut = {
        key: F.resized_crop(whole, *window, [side, side], interpolation=F.InterpolationMode.BILINEAR, antialias=True)
        for key, whole in canvas.items()
    }
    result = {**samples[0], **cut} | {f"{key}_is_gray": all(s.get(f"{key}_is_gray") for s in samples) for key in "ab"}
    if boxes:
        offset = torch.tensor([window[1] - margin, window[0] - margin] * 2)
        result["boxes"], kept = _kept((torch.cat(boxes) - offset) * (side / window[2]), side)
        result["labels"] = torch.cat(labels)[kept]
    return result


def _seen(start: int, length: int, end: int) -> tuple[int, int]:
    """Where a picture begins and ends on a canvas that ends at 0 and `end`."""
    return max(start, 0), min(start + length, end)


def _kept(boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Boxes clipped to the result, those of which enough is left; and which of the given ones these are."""
    clipped = clip_boxes_to_image(boxes, (side, side))
    sides = (clipped[:, 2:] - clipped[:, :2]).amin(1) if len(clipped) else clipped.new_zeros(0)
    kept = ((box_area(clipped) >= MIN_BOX_AREA * box_area(boxes)) & (sides > MIN_SIDE)).nonzero()[:, 0]
    return clipped[kept], kept
