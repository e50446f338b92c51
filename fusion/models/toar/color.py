"""The luma and chroma of the released T-OAR code: JPEG's matrices, chroma around 128/255."""

import torch
from torch import Tensor

NEUTRAL = 128 / 255


def split(images: Tensor) -> tuple[Tensor, Tensor]:
    """RGB `(B, 3, H, W)` in [0, 1] to luma `(B, 1, H, W)` and chroma `(B, 2, H, W)`."""
    red, green, blue = images.split(1, dim=1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    first = -0.1687 * red - 0.3313 * green + 0.5 * blue + NEUTRAL
    second = 0.5 * red - 0.4187 * green - 0.0813 * blue + NEUTRAL
    return luma, torch.cat([first, second], dim=1)


def join(luma: Tensor, chroma: Tensor) -> Tensor:
    """Back to RGB `(B, 3, H, W)`, not clipped, so that gradients of task losses pass everywhere."""
    first, second = (chroma - NEUTRAL).split(1, dim=1)
    return torch.cat([luma + 1.402 * second, luma - 0.34414 * first - 0.71414 * second, luma + 1.772 * first], dim=1)
