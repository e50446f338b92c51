"""Q_P: whether the fused image keeps the sources' phase-congruent features (Zhao, Laganiere and Liu 2007)."""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fusion.metrics.filters import smooth
from fusion.metrics.log_gabor import ORIENTATIONS, SCALES, log_gabor
from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple

# Kovesi 1999 and the settings of Liu's toolbox
NOISE_DEVIATIONS, NOISE_DIVISOR = 2.0, 1.7
SPREAD_CUTOFF, SPREAD_GAIN = 0.5, 10.0
EPS = 1e-4
FEATURE = 0.1  # phase congruency above which a pixel is a feature
ROWS = 16  # at a time on a CPU, so that the responses of all scales stay in a core's cache


class Features(NamedTuple):
    """Phase congruency, and the larger and smaller moment of its orientation covariance, each `(N, H, W)`."""

    congruency: Tensor
    larger: Tensor
    smaller: Tensor


class Responses(NamedTuple):
    """What the filters of one orientation say, scales put together, each `(N, H, W)`.

    `energy` before the noise is taken off, the sum and the largest of the scales' amplitudes, and that of the finest.
    """

    energy: Tensor
    total: Tensor
    peak: Tensor
    finest: Tensor


def phase_congruency(planes: Tensor, toolbox: bool = False) -> Features:
    """Phase congruency of planes `(N, H, W)` in 0..255.

    Args:
        planes: the images.
        toolbox: as Liu's and MEFB's code has it: a quarter of the orientation covariance (an old slip of Kovesi's
            code), and filters slightly off at odd sizes.
    """
    if planes.device.type != "cpu":
        return _phase_congruency(planes, toolbox)
    # 24 complex responses per plane: one plane at a time stays near the core, a batch would not
    each = [_phase_congruency(plane[None], toolbox) for plane in planes]
    return Features(*(torch.cat(maps) for maps in zip(*each, strict=True)))


def _phase_congruency(planes: Tensor, toolbox: bool) -> Features:
    bank = log_gabor(*planes.shape[-2:], planes.device, planes.dtype, toolbox)
    spectrum = torch.view_as_real(torch.fft.fft2(planes))[:, None]  # (N, 1, H, W, 2)
    amplitude_sum, energy_sum = torch.zeros_like(planes), torch.zeros_like(planes)
    squares = []
    for filters, power, noise in zip(*bank, strict=True):
        response = torch.fft.ifft2(torch.view_as_complex(spectrum * filters))
        energy, total, peak, finest = _combine_scales(torch.view_as_real(response))
        # Rayleigh-distributed noise, estimated from the median response of the smallest scale
        noise_power = _median_of_squares(finest.flatten(1)) / math.log(2) / power
        tau = (noise_power * noise / 2).sqrt()
        threshold = tau * (math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2)) / NOISE_DIVISOR
        weight = total.div(peak.add_(EPS)).sub_(SPREAD_CUTOFF * SCALES).mul_(SPREAD_GAIN / SCALES).sigmoid_()
        energy = energy.sub_(threshold[:, None, None]).clamp_min_(0).mul_(weight)
        amplitude_sum += total
        energy_sum += energy
        squares.append((energy / torch.where(total > 0, total, 1)).square_())
    angles = torch.arange(ORIENTATIONS, device=planes.device, dtype=planes.dtype) * (math.pi / ORIENTATIONS)
    x, y = angles.cos(), angles.sin()
    weights = torch.stack((2 * x * x, 2 * y * y, (1 if toolbox else 4) * x * y)) / ORIENTATIONS
    xx, yy, xy = torch.tensordot(weights, torch.stack(squares), 1)
    root = torch.hypot(xy, xx - yy) + EPS
    return Features(energy_sum / (amplitude_sum + EPS), (xx + yy + root) / 2, (xx + yy - root) / 2)


def _combine_scales(response: Tensor) -> Responses:
    """Sums the responses `(N, S, H, W, 2)` of one orientation over the scales."""
    n, _, h, w, _ = response.shape
    out = Responses(*(response.new_empty(n, h, w) for _ in Responses._fields))
    step = ROWS if response.device.type == "cpu" else h
    for start in range(0, h, step):
        rows = slice(start, start + step)
        even, odd = (part.contiguous() for part in response[:, :, rows].unbind(-1))
        amplitude = (even * even).addcmul_(odd, odd).sqrt_()
        sum_even, sum_odd = even.sum(1), odd.sum(1)
        length = (sum_even * sum_even).addcmul_(sum_odd, sum_odd).sqrt_().add_(EPS)
        mean_even, mean_odd = sum_even / length, sum_odd / length
        along = (sum_even * mean_even).addcmul_(sum_odd, mean_odd)
        across = even.mul_(mean_odd[:, None]).addcmul_(odd, mean_even[:, None], value=-1).abs_().sum(1)
        parts = (along - across, amplitude.sum(1), amplitude.amax(1), amplitude[:, 0])
        for whole, part in zip(out, parts, strict=True):
            whole[:, rows] = part
    return out


def _median_of_squares(x: Tensor) -> Tensor:
    """Median over the last axis of the squares of `x >= 0`: the mean of the two middle ones of an even number."""
    middle = x.shape[-1] // 2
    on_cpu = x.device.type == "cpu"  # where numpy's partition is several times faster than torch's selection
    parted = torch.from_numpy(np.partition(x.numpy(force=True), middle)) if on_cpu else x.sort(-1).values
    upper = parted[:, middle]
    lower = upper if x.shape[-1] % 2 else parted[:, :middle].amax(-1)
    return (lower * lower + upper * upper) / 2


def _correlation(x: Tensor, fused: Tensor, window: int = 11, c: float = 1e-4) -> Tensor:
    """Local correlation of `(K, N, H, W)` with `(N, H, W)`, zero border."""
    blur = functools.partial(smooth, size=window, sigma=1.5, border="zero")
    mean_x, mean_f = blur(x), blur(fused)
    var_x, var_f = blur(x * x) - mean_x**2, blur(fused * fused) - mean_f**2
    cov = blur(x * fused) - mean_x * mean_f
    return (cov + c) / ((var_x * var_f).abs().sqrt() + c)


def _quality(t: Triple, toolbox: bool) -> Tensor:
    # single precision moves the result by less than 1e-5 and halves the time of the 144 inverse transforms
    congruency, larger, smaller = phase_congruency(t.stack.detach().flatten(0, 1).float(), toolbox)
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
