"""Structural similarity as a training term, with the zero padding of the released TC-MoA code.

`fusion.metrics` has the SSIM that tables are made of; a network trained with one border rule is not scored with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

C1, C2 = 0.01**2, 0.03**2


def gaussian_window(size: int, sigma: float, like: Tensor) -> Tensor:
    """Normalised 1-D Gaussian `(size,)` on the device and in the type of `like`."""
    x = torch.arange(size, device=like.device, dtype=like.dtype) - size // 2
    window = torch.exp(-(x**2) / (2 * sigma**2))
    return window / window.sum()


def blur(images: Tensor, window: Tensor) -> Tensor:
    """Separable filter of every channel with zero padding; `(B, C, H, W)` to the same."""
    channels, size = images.shape[1], len(window)
    rows = window.view(1, 1, 1, size).expand(channels, 1, 1, size)
    images = F.conv2d(images, rows, padding=(0, size // 2), groups=channels)
    return F.conv2d(images, rows.transpose(2, 3), padding=(size // 2, 0), groups=channels)


def ssim(x: Tensor, y: Tensor, size: int = 11, sigma: float = 1.5) -> Tensor:
    """Mean SSIM over pixels and channels (Wang et al. 2004), zero padding, data range 1.

    Args:
        x, y: `(B, C, H, W)` in [0, 1].
        size, sigma: size and width of the Gaussian window.

    Returns:
        Scalar in [-1, 1].
    """
    stats = blur(torch.cat([x, y, x * x, y * y, x * y]), gaussian_window(size, sigma, x))
    mu_x, mu_y, xx, yy, xy = stats.chunk(5)
    var_x, var_y, cov = xx - mu_x**2, yy - mu_y**2, xy - mu_x * mu_y
    luminance = (2 * mu_x * mu_y + C1) / (mu_x**2 + mu_y**2 + C1)
    return (luminance * (2 * cov + C2) / (var_x + var_y + C2)).mean()
