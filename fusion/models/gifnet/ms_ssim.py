"""Multi-scale SSIM as a training term, without a border, for pictures as small as a patch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.losses.structure import gaussian_window

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales (Wang et al. 2003)."""


def ssim_valid(x: Tensor, y: Tensor, data_range: float | None = None, size: int = 11) -> tuple[Tensor, Tensor]:
    """Mean SSIM, and its mean contrast-structure part, where the window fits.

    Args:
        x, y: `(B, 1, H, W)`.
        data_range: range of the values. None guesses it from `x`, as the code that GIFNet uses does: 255 above 128,
            one more than the largest below -0.5, else 1.
        size: side of the Gaussian window of sigma 1.5; no larger than the picture.
    """
    spread = _guess_range(x) if data_range is None else x.new_tensor(data_range)
    c1, c2 = (0.01 * spread) ** 2, (0.03 * spread) ** 2
    window = gaussian_window(min(size, *x.shape[-2:]), 1.5, x)
    maps = torch.cat([x, y, x * x, y * y, x * y])
    mu_x, mu_y, xx, yy, xy = F.conv2d(F.conv2d(maps, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1)).chunk(5)
    contrast = (2 * (xy - mu_x * mu_y) + c2) / (xx - mu_x**2 + yy - mu_y**2 + c2)
    luminance = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    return (luminance * contrast).mean(), contrast.mean()


def ms_ssim(x: Tensor, y: Tensor, data_range: float | None = 1.0, repeat_last: bool = False) -> Tensor:
    """MS-SSIM over five scales of halved size; both parts are mapped from [-1, 1] to [0, 1] before their powers.

    Args:
        x, y: `(B, 1, H, W)`, sides of 16 pixels and more.
        data_range: see `ssim_valid`; guessed at every scale anew.
        repeat_last: multiply the SSIM of the last scale in four times, as the code that GIFNet uses does.

    Returns:
        Scalar in [0, 1].
    """
    result = x.new_ones(())
    for scale, weight in enumerate(WEIGHTS):
        value, contrast = ssim_valid(x, y, data_range)
        last = scale == len(WEIGHTS) - 1
        power = weight * (len(WEIGHTS) - 1) if last and repeat_last else weight
        result = result * (((value if last else contrast) + 1) / 2) ** power
        if not last:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return result


def _guess_range(x: Tensor) -> Tensor:
    high = torch.where(x.detach().amax() > 128, 255.0, 1.0)
    return high + torch.where(x.detach().amin() < -0.5, 1.0, 0.0)
