"""Box filters: means over windows, at the border over what is there."""

import torch.nn.functional as F
from torch import Tensor


def box(x: Tensor, side: int) -> Tensor:
    """Mean over `side` x `side` pixels (odd) of `(B, C, h, w)`; the window is cut at the border."""
    for axis, size in enumerate(((side, 1), (1, side))):
        if x.shape[2 + axis] > 1:
            x = F.avg_pool2d(x, size, 1, (size[0] // 2, size[1] // 2), count_include_pad=False)
    return x


def pool(x: Tensor, side: int) -> Tensor:
    """Means of blocks of `side` x `side` pixels; blocks that cross the border are cut."""
    return x if side == 1 else F.avg_pool2d(x, side, ceil_mode=True, count_include_pad=False)


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """Smooth along the edges of a guide by local linear models (He, Sun and Tang 2013).

    Windows are cut at the border, as in the paper; `kornia.filters.guided_blur` reflects the border instead.

    Args:
        guide: `(B, 1, h, w)`.
        x: what is smoothed, likewise.
        radius: windows have `2 radius + 1` pixels a side.
        eps: least variance of the guide that counts as an edge.
    """
    side = 2 * radius + 1
    mean_g, mean_x = box(guide, side), box(x, side)
    variance = box(guide * guide, side) - mean_g * mean_g
    slope = (box(guide * x, side) - mean_g * mean_x) / (variance + eps)
    return box(slope, side) * guide + box(mean_x - slope * mean_g, side)
