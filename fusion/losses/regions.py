"""Terms that treat regions of interest and the rest of the picture differently (MoE-Fusion, released code)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.losses.gradient import sobel_magnitude


def box_mask(boxes: Sequence[Tensor], size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Union of each image's boxes.

    Args:
        boxes: per image `(n, 4)` x1, y1, x2, y2 in pixels; truncated to whole pixels and clipped to the image, the end
            not included. Empty and inverted boxes cover nothing.
        size: height and width of the image.
        device: device of the result.

    Returns:
        `(B, 1, H, W)` float, 1 inside a box and 0 elsewhere.
    """
    rows, columns = (torch.arange(side, device=device) for side in size)
    masks = []
    for of_image in boxes:
        x1, y1, x2, y2 = of_image.reshape(-1, 4).to(device).trunc().unsqueeze(-1).unbind(1)
        inside_rows = ((rows >= y1) & (rows < y2)).float()  # (n, H)
        inside_columns = ((columns >= x1) & (columns < x2)).float()  # (n, W)
        masks.append((inside_rows.t() @ inside_columns > 0).float())
    return torch.stack(masks).unsqueeze(1)


def region_pixel_l1(fused: Tensor, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """L1 to the maximum of the sources inside the mask plus L1 to their mean outside, each averaged over all pixels.

    Args:
        fused, a, b: `(B, C, H, W)` in [0, 1].
        mask: `(B, 1, H, W)` in [0, 1].

    Returns:
        Scalar.
    """
    inside = (fused - torch.maximum(a, b)).abs()
    outside = (fused - (a + b) / 2).abs()
    return (mask * inside + (1 - mask) * outside).mean()


def max_sobel_l1(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """L1 between the gradient magnitude of the fused image and the larger of the sources', all `(B, 1, H, W)`; scalar."""
    return F.l1_loss(sobel_magnitude(fused), torch.maximum(sobel_magnitude(a), sobel_magnitude(b)))
