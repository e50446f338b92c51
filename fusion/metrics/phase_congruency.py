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
TINY = 1e-30
FEATURE = 0.1  # phase congruency above which a pixel is a feature
ROWS = 16  # at a time on a CPU, so that the responses of all scales stay in a core's cache


class Features(NamedTuple):
    """Phase congruency, and the larger and smaller moment of its orientation covariance, each `(N, H, W)`."""

    congruency: Tensor
    larger: Tensor
    smaller: Tensor


class Sums(NamedTuple):
    """Sums over the orientations so far, each `(N, H, 2 W)`: the two orientations of a pair stand side by side.

    Of the amplitudes, of the energies, and of the squared congruencies s: `s`, `s cos 2a` and `s sin 2a` for angle a.
    """

    amplitude: Tensor
    energy: Tensor
    square: Tensor
    cosine: Tensor
    sine: Tensor


def phase_congruency(planes: Tensor, toolbox: bool = False) -> Features:
    """Phase congruency of planes `(N, H, W)` in 0..255.

    Args:
        planes: the images.
        toolbox: as Liu's and MEFB's code has it: a quarter of the orientation covariance (an old slip of Kovesi's
            code), and filters slightly off at odd sizes.
    """
    if planes.device.type != "cpu":
        return _phase_congruency(planes, toolbox, Workspace(planes))
    # one plane at a time stays nearer to the core than a batch, and its workspace serves the next one
    work = Workspace(planes[:1])
    each = [_phase_congruency(plane[None], toolbox, work) for plane in planes]
    return Features(*(torch.cat(maps) for maps in zip(*each, strict=True)))


class Workspace:
    """Memory that planes use in turn, 40 times as large as one of them: the system need not clear it for each.

    Args:
        planes: as many `(N, H, W)` as are worked on at a time.
    """

    def __init__(self, planes: Tensor) -> None:
        n, h, w = planes.shape
        self.sums = Sums(*planes.new_empty(len(Sums._fields), n, h, 2 * w))
        self.responses = planes.new_empty(2, SCALES, n, h, w, dtype=planes.dtype.to_complex())


def _phase_congruency(planes: Tensor, toolbox: bool, work: Workspace) -> Features:
    h, w = planes.shape[-2:]
    bank = log_gabor(h, w, planes.device, planes.dtype, toolbox)
    spectrum = torch.fft.fft2(planes)
    even, odd = torch.view_as_real(work.responses).flatten(-2)  # (S, N, H, 2 W) each
    # of the cosine and the sine of angles a quarter turn apart
    sign = 1 - 2 * (torch.arange(2 * w, device=planes.device, dtype=planes.dtype) % 2)
    step = ROWS if planes.device.type == "cpu" else h
    sums = work.sums
    for each in sums:
        each.zero_()
    for p, pair in enumerate(bank.pairs):
        for out, part in zip(work.responses.flatten(0, 1), pair.flatten(0, 1), strict=True):
            torch.fft.ifft2(spectrum * part, out=out)
        both = slice(p, None, ORIENTATIONS // 2)
        threshold = _noise_threshold(even[0], odd[0], bank.power[both], bank.noise[both])
        angle = 2 * math.pi * p / ORIENTATIONS
        for start in range(0, h, step):
            rows = slice(start, start + step)
            total, energy = _combine_scales(even[..., rows, :], odd[..., rows, :], threshold)
            square = (energy / total.clamp_min(TINY)).square_()
            for whole, part in zip(sums, (total, energy, square), strict=False):
                whole[:, rows] += part
            square.mul_(sign)
            sums.cosine[:, rows].add_(square, alpha=math.cos(angle))
            sums.sine[:, rows].add_(square, alpha=math.sin(angle))
    amplitude, energy, square, cosine, sine = (x[..., ::2] + x[..., 1::2] for x in sums)
    # half of the trace of the orientation covariance, of the difference of its diagonal, and its mixed term
    mixed = sine * (0.25 if toolbox else 1)
    root = torch.hypot(mixed, cosine).add_(EPS * ORIENTATIONS / 2)
    return Features(energy / (amplitude + EPS), (square + root) / ORIENTATIONS, (square - root) / ORIENTATIONS)


def _noise_threshold(even: Tensor, odd: Tensor, power: Tensor, noise: Tensor) -> Tensor:
    """Energy `(N, 1, 2 W)` that noise alone would reach, from the finest scale's responses `(N, H, 2 W)`.

    Rayleigh-distributed noise, estimated from the median response.
    """
    squares = (even * even).addcmul_(odd, odd).unflatten(-1, (-1, 2)).flatten(1, 2)  # (N, H W, 2)
    median = torch.stack([_median(x) for x in squares.unbind(-1)], -1)  # (N, 2)
    tau = (median / math.log(2) / power * noise / 2).sqrt()
    threshold = tau * (math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2)) / NOISE_DIVISOR
    return threshold.repeat(1, even.shape[-1] // 2)[:, None]


def _combine_scales(even: Tensor, odd: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the amplitudes over the scales, and the energy above the noise, weighted by the spread over the scales.

    Args:
        even: even responses `(S, N, h, 2 W)`.
        odd: odd responses.
        threshold: noise threshold, `(N, 1, 2 W)`.
    """
    amplitude = (even * even).addcmul_(odd, odd).sqrt_()
    total, peak = amplitude.sum(0), amplitude.amax(0)
    x, y = even.sum(0), odd.sum(0)
    # along the mean phase (x, y) less what lies across it, both times the length of (x, y)
    across = torch.mul(even, y, out=amplitude).addcmul_(odd, x, value=-1).abs_().sum(0)
    square = x.square_().addcmul_(y, y)
    length = square.sqrt().add_(EPS)
    energy = square.sub_(across).div_(length).sub_(threshold).clamp_min_(0)
    spread = torch.div(total, peak.add_(EPS), out=peak).sub_(SPREAD_CUTOFF * SCALES)
    return total, energy.mul_(spread.mul_(SPREAD_GAIN / SCALES).sigmoid_())


def _median(x: Tensor) -> Tensor:
    """Median of `(N, K)` over the last axis: the mean of the two middle values of an even number."""
    middle = x.shape[-1] // 2
    on_cpu = x.device.type == "cpu"  # where numpy's partition is several times faster than torch's selection
    parted = torch.from_numpy(np.partition(x.numpy(force=True), middle)) if on_cpu else x.sort(-1).values
    upper = parted[:, middle]
    lower = upper if x.shape[-1] % 2 else parted[:, :middle].amax(-1)
    return (lower + upper) / 2


def _correlation(x: Tensor, fused: Tensor, window: int = 11, c: float = 1e-4) -> Tensor:
    """Local correlation of planes `(K, N, H, W)` with the planes `fused` `(N, H, W)`, zero border."""
    blur = functools.partial(smooth, size=window, sigma=1.5, border="zero")
    mean, mean_f = blur(x), blur(fused)
    variance = blur(x * x).addcmul_(mean, mean, value=-1)
    variance_f = blur(fused * fused).addcmul_(mean_f, mean_f, value=-1)
    covariance = blur(x * fused).addcmul_(mean, mean_f, value=-1)
    return covariance.add_(c).div_(variance.mul_(variance_f).abs_().sqrt_().add_(c))


def _agreement(features: Features) -> Tensor:
    """Q_P `(N,)` of the maps `(3, N, H, W)` of a, b and fused."""
    pc_a, pc_b, _ = features.congruency
    first = pc_a > pc_b
    masks = torch.stack((pc_a, pc_b, torch.maximum(pc_a, pc_b))).gt_(FEATURE)  # 0 or 1
    count = masks[2].count_nonzero((-2, -1))
    product = masks.new_ones(count.shape)
    for a, b, fused in features:
        candidates = torch.stack((a, b, torch.where(first, a, b))).mul_(masks)
        correlation = _correlation(candidates, fused).mul_(masks).amax(0)
        product = product * correlation.sum((-2, -1)) / count.clamp_min(1)
    return product * (count > 0)


def _quality(t: Triple, toolbox: bool) -> Tensor:
    # single precision moves the result by less than 1e-5 and halves the time of the 24 transforms of each plane
    features = phase_congruency(t.stack.detach().flatten(0, 1).float(), toolbox)
    maps = [m.unflatten(0, (3, -1)) for m in features]
    if maps[0].device.type == "cpu":  # one image at a time stays nearer to the core
        groups = [m.split(1, 1) for m in maps]
        value = torch.cat([_agreement(Features(*each)) for each in zip(*groups, strict=True)])
    else:
        value = _agreement(Features(*maps))
    return value.to(t.a.dtype)


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
