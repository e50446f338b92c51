"""Q_P: whether the fused image keeps the sources' phase-congruent features (Zhao, Laganiere and Liu 2007)."""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.metrics.filters import inverse_rfft2, smooth
from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple

# Kovesi 1999 and the settings of Liu's toolbox
SCALES, ORIENTATIONS = 4, 6
SHORTEST_WAVE, WAVE_RATIO, SIGMA_ON_F = 3.0, 2.1, 0.55
ANGLE_SIGMA = math.pi / ORIENTATIONS / 1.2
NOISE_DEVIATIONS, NOISE_DIVISOR = 2.0, 1.7
SPREAD_CUTOFF, SPREAD_GAIN = 0.5, 10.0
LOWPASS_CUTOFF, LOWPASS_ORDER = 0.45, 15
EPS = 1e-4
FEATURE = 0.1  # phase congruency above which a pixel is a feature


class Features(NamedTuple):
    """Phase congruency, and the larger and smaller moment of its orientation covariance, each `(N, H, W)`."""

    congruency: Tensor
    larger: Tensor
    smaller: Tensor


def _axis(n: int, like: Tensor, toolbox: bool) -> Tensor:
    """Frequencies of `n` bins in FFT order; the toolbox spreads an odd number of them over n - 1."""
    k = torch.arange(n, device=like.device, dtype=like.dtype) - n // 2
    return torch.fft.ifftshift(k / (n - n % 2 if toolbox else n))


def _lowpass(h: int, w: int, like: Tensor, toolbox: bool) -> Tensor:
    """Butterworth low-pass; the toolbox shifts it the wrong way, one bin off along odd sides."""
    shift = torch.fft.fftshift if toolbox else torch.fft.ifftshift
    y, x = (shift((torch.arange(n, device=like.device, dtype=like.dtype) - n // 2) / n) for n in (h, w))
    return 1 / (1 + (torch.hypot(y[:, None], x[None, :]) / LOWPASS_CUTOFF) ** (2 * LOWPASS_ORDER))


class Filters(NamedTuple):
    """Log-Gabor filters of one image size, on the half plane of `rfft2`.

    The even and odd parts `(O, S, H, W // 2 + 1, 2)` of each filter give the real and the imaginary part of its
    response; each value stands twice, for the two parts of the complex spectrum it multiplies. `power` and `noise`
    `(O,)` are what the noise estimate needs.
    """

    even: Tensor
    odd: Tensor
    power: Tensor
    noise: Tensor


@functools.lru_cache(maxsize=2)  # a bank for 1280 x 1024 images takes 250 MB
def log_gabor(h: int, w: int, device: torch.device, dtype: torch.dtype, toolbox: bool) -> Filters:
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
    parts = []
    for o in range(ORIENTATIONS):
        angle = o * math.pi / ORIENTATIONS
        away = torch.atan2(torch.sin(theta - angle), torch.cos(theta - angle)).abs()
        bank = radial * torch.exp(-(away**2) / (2 * ANGLE_SIGMA**2))
        mirrored = bank.flip(-2, -1).roll((1, 1), (-2, -1))
        even, odd = (bank + mirrored) / 2, (bank - mirrored) / 2
        # the toolbox sums squares and products of the real parts in space; Parseval gives them from the even parts
        squares, total = (even**2).sum(), (even.sum(0) ** 2).sum()
        noise = 2 * squares + 2 * (total - squares)
        halves = (part[..., : w // 2 + 1, None].expand(-1, -1, -1, 2) for part in (even, odd))
        parts.append((*halves, (bank[0] ** 2).sum(), noise))
    return Filters(*(torch.stack(part).to(dtype) for part in zip(*parts, strict=True)))


def _median(x: Tensor) -> Tensor:
    """Median over the last axis, the mean of the two middle values where their number is even."""
    n = x.shape[-1]
    low = x.median(-1, keepdim=True).values
    if n % 2:
        return low[..., 0]
    beyond = torch.where(x > low, x, torch.inf).amin(-1)
    upper = torch.where((x <= low).sum(-1) > n // 2, low[..., 0], beyond)
    return (low[..., 0] + upper) / 2


def phase_congruency(planes: Tensor, toolbox: bool = False) -> Features:
    """Phase congruency of planes `(N, H, W)` in 0..255.

    Args:
        planes: the images.
        toolbox: as Liu's and MEFB's code has it: a quarter of the orientation covariance (an old slip of Kovesi's
            code), and filters slightly off at odd sizes.
    """
    if planes.device.type != "cpu":
        return _phase_congruency(planes, toolbox)
    # 24 responses per plane: one plane at a time stays near the core, a batch would not
    each = [_phase_congruency(plane[None], toolbox) for plane in planes]
    return Features(*(torch.cat(maps) for maps in zip(*each, strict=True)))


def _phase_congruency(planes: Tensor, toolbox: bool) -> Features:
    h, w = planes.shape[-2:]
    bank = log_gabor(h, w, planes.device, planes.dtype, toolbox)
    spectrum = torch.fft.rfft2(planes)[:, None]
    straight, turned = torch.view_as_real(spectrum), torch.view_as_real(spectrum * -1j)

    def response(half_spectrum: Tensor, filters: Tensor) -> Tensor:
        return inverse_rfft2(torch.view_as_complex(half_spectrum * filters), (h, w))

    amplitude_sum, energy_sum, xx, yy, xy = (torch.zeros_like(planes) for _ in range(5))
    for o in range(ORIENTATIONS):
        even, odd = response(straight, bank.even[o]), response(turned, bank.odd[o])  # (N, S, H, W)
        amplitude = (even * even).addcmul_(odd, odd).sqrt_()
        total, sum_even, sum_odd = amplitude.sum(1), even.sum(1), odd.sum(1)
        length = (sum_even * sum_even).addcmul_(sum_odd, sum_odd).sqrt_().add_(EPS)
        mean_even, mean_odd = sum_even / length, sum_odd / length
        energy = sum_even * mean_even + sum_odd * mean_odd
        energy -= even.mul_(mean_odd[:, None]).addcmul_(odd, mean_even[:, None], value=-1).abs_().sum(1)
        # Rayleigh-distributed noise, estimated from the median response of the smallest scale
        noise_power = _median((amplitude[:, 0] ** 2).flatten(1)) / math.log(2) / bank.power[o]
        tau = (noise_power * bank.noise[o] / 2).sqrt()
        threshold = tau * (math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2)) / NOISE_DIVISOR
        spread = total / (amplitude.amax(1) + EPS) / SCALES
        weight = torch.sigmoid((spread - SPREAD_CUTOFF) * SPREAD_GAIN)
        energy = weight * (energy - threshold[:, None, None]).clamp_min(0)
        amplitude_sum += total
        energy_sum += energy
        local = energy / torch.where(total > 0, total, 1)
        angle = o * math.pi / ORIENTATIONS
        x, y = local * math.cos(angle), local * math.sin(angle)
        xx += x * x
        yy += y * y
        xy += x * y
    xx, yy, xy = xx * 2 / ORIENTATIONS, yy * 2 / ORIENTATIONS, xy * (1 if toolbox else 4) / ORIENTATIONS
    root = torch.hypot(xy, xx - yy) + EPS
    return Features(energy_sum / (amplitude_sum + EPS), (xx + yy + root) / 2, (xx + yy - root) / 2)


def _correlation(x: Tensor, fused: Tensor, window: int = 11, c: float = 1e-4) -> Tensor:
    """Local correlation of `(K, N, H, W)` with `(N, H, W)`, zero border."""
    blur = functools.partial(smooth, size=window, sigma=1.5, border="zero")
    mean_x, mean_f = blur(x), blur(fused)
    var_x, var_f = blur(x * x) - mean_x**2, blur(fused * fused) - mean_f**2
    cov = blur(x * fused) - mean_x * mean_f
    return (cov + c) / ((var_x * var_f).abs().sqrt() + c)


def _quality(t: Triple, toolbox: bool) -> Tensor:
    # single precision moves the result by less than 1e-5 and halves the time of the 144 inverse transforms
    congruency, larger, smaller = phase_congruency(t.stack.flatten(0, 1).float(), toolbox)
    maps = [m.unflatten(0, (3, -1)) for m in (congruency, larger, smaller)]
    pc_a, pc_b = maps[0][0], maps[0][1]
    first = pc_a > pc_b
    masks = torch.stack((pc_a > FEATURE, pc_b > FEATURE, torch.maximum(pc_a, pc_b) > FEATURE))
    count = masks[2].sum((-2, -1))
    product = torch.ones_like(count, dtype=torch.float32)
    for feature in maps:
        best = torch.where(first, feature[0], feature[1])
        candidates = torch.stack((feature[0], feature[1], best)) * masks
        correlation = (_correlation(candidates, feature[2]) * masks).amax(0)
        product = product * correlation.sum((-2, -1)) / count.clamp_min(1)
    return torch.where(count > 0, product, 0).to(t.a.dtype)


@metric(
    "qp",
    symbol="Q_P",
    title="phase-congruency-based quality",
    bounds=(-1, 1),
    differentiable=False,
    source="Zhao, Laganiere and Liu 2007, as in Liu et al. 2012",
)
def qp(t: Triple) -> Tensor:
    """Product of the correlations of phase congruency and its two moments between sources and fused image.

    At each feature pixel (congruency of a source above 0.1) the best of three local correlations counts: with a, with
    b, and with the source that is more congruent there; higher is better. 0 where the sources have no feature.
    """
    return _quality(t, toolbox=False)


@variant("qp", "mefb", "liu")
def qp_liu(t: Triple) -> Tensor:
    """Liu and MEFB: with the toolbox's orientation covariance and odd-size filters (NaN there without any feature)."""
    return _quality(t, toolbox=True)
