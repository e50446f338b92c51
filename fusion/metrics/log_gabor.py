"""The bank of log-Gabor filters that phase congruency is computed with (Kovesi 1999)."""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

# Settings of Kovesi's code and of Liu's toolbox
SCALES, ORIENTATIONS = 4, 6
SHORTEST_WAVE, WAVE_RATIO, SIGMA_ON_F = 3.0, 2.1, 0.55
ANGLE_SIGMA = math.pi / ORIENTATIONS / 1.2
LOWPASS_CUTOFF, LOWPASS_ORDER = 0.45, 15


class Bank(NamedTuple):
    """Log-Gabor filters of one image size, in the order of the bins of `fft2`, for real images.

    The response to the even part of a filter is real, and so is i times that to the odd part. Two orientations p and
    `q = p + O/2` therefore share a complex transform: with the spectrum times `pairs[p, 0]` it gives
    `even_p + i even_q`, with the spectrum times `pairs[p, 1]` `odd_p + i odd_q`.

    `pairs` are `(O/2, 2, S, H, W)` complex; `power` and `noise` `(O,)` are what the estimate of the noise needs.
    """

    pairs: Tensor
    power: Tensor
    noise: Tensor


def _axis(n: int, like: Tensor, toolbox: bool) -> Tensor:
    """Frequencies of `n` bins in FFT order; the toolbox spreads an odd number of them over n - 1."""
    k = torch.arange(n, device=like.device, dtype=like.dtype) - n // 2
    return torch.fft.ifftshift(k / (n - n % 2 if toolbox else n))


def _lowpass(h: int, w: int, like: Tensor, toolbox: bool) -> Tensor:
    """Butterworth low-pass; the toolbox shifts it the wrong way, one bin off along odd sides."""
    shift = torch.fft.fftshift if toolbox else torch.fft.ifftshift
    y, x = (shift((torch.arange(n, device=like.device, dtype=like.dtype) - n // 2) / n) for n in (h, w))
    return 1 / (1 + (torch.hypot(y[:, None], x[None, :]) / LOWPASS_CUTOFF) ** (2 * LOWPASS_ORDER))


@functools.lru_cache(maxsize=2)  # a bank for 1280 x 1024 images takes 250 MB
def log_gabor(h: int, w: int, device: torch.device, dtype: torch.dtype, toolbox: bool) -> Bank:
    """The filter bank for `h` x `w` images; `toolbox` keeps the quirks of Liu's code at odd sizes."""
    like = torch.empty((), device=device, dtype=torch.float64)
    y, x = _axis(h, like, toolbox)[:, None], _axis(w, like, toolbox)[None, :]
    radius = torch.hypot(x, y)
    theta = torch.atan2(-y, x)
    radius[0, 0] = 1
    waves = [SHORTEST_WAVE * WAVE_RATIO**s for s in range(SCALES)]
    radial = torch.stack([torch.exp(-((radius * v).log() ** 2) / (2 * math.log(SIGMA_ON_F) ** 2)) for v in waves])
    radial = radial * _lowpass(h, w, like, toolbox)
    radial[:, 0, 0] = 0
    evens, odds, power, noise = [], [], [], []
    for o in range(ORIENTATIONS):
        angle = o * math.pi / ORIENTATIONS
        away = torch.atan2(torch.sin(theta - angle), torch.cos(theta - angle)).abs()
        bank = radial * torch.exp(-(away**2) / (2 * ANGLE_SIGMA**2))
        mirrored = bank.flip(-2, -1).roll((1, 1), (-2, -1))
        even = (bank + mirrored) / 2
        # the toolbox sums squares and products of the real parts in space; Parseval gives them from the even parts
        squares, total = (even**2).sum(), (even.sum(0) ** 2).sum()
        evens.append(even.to(dtype))
        odds.append(((bank - mirrored) / 2).to(dtype))
        power.append((bank[0] ** 2).sum())
        noise.append(2 * squares + 2 * (total - squares))
    pairs = [
        torch.stack((torch.complex(evens[p], evens[q]), torch.complex(odds[q], -odds[p])))
        for p, q in enumerate(range(ORIENTATIONS // 2, ORIENTATIONS))
    ]
    return Bank(torch.stack(pairs), torch.stack(power).to(dtype), torch.stack(noise).to(dtype))
