"""Metrics that look through a model of the eye's contrast sensitivity: Chen and Blum, Chen and Varshney."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.metrics.filters import inverse_rfft2, magnitude, sobel
from fusion.metrics.gradient import edges
from fusion.metrics.quality_index import share
from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple, stretch

BLOCK = 16  # pixels, Chen and Varshney 2007


def radius(shape: tuple[int, int], rows: float, columns: float, like: Tensor) -> Tensor:
    """Radial frequency of each bin of `rfft2`; `rows` and `columns` are the frequencies at Nyquist."""
    h, w = shape
    v = torch.fft.fftfreq(h, d=0.5, device=like.device, dtype=like.dtype) * rows
    u = torch.fft.rfftfreq(w, d=0.5, device=like.device, dtype=like.dtype) * columns
    return torch.hypot(v[:, None], u[None, :])


def _fast_size(n: int) -> int:
    """The next length at or above `n` whose only prime factors are 2, 3 and 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def _blurred(planes: Tensor, sigmas: tuple[float, ...], size: int) -> list[Tensor]:
    """Each plane smoothed by Gaussians of `size` x `size` taps weighted `1 / (2 pi sigma^2)`, zero border.

    The windows are wide, so the sums are products of Fourier transforms of the padded planes.
    """
    h, w = planes.shape[-2:]
    full = _fast_size(h + size - 1), _fast_size(w + size - 1)
    spectrum = torch.fft.rfft2(planes, s=full)
    out = []
    for sigma in sigmas:
        x = torch.arange(size, device=planes.device, dtype=planes.dtype) - size // 2
        taps = torch.exp(-(x**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
        transfer = torch.fft.fft(taps, n=full[0])[:, None] * torch.fft.rfft(taps, n=full[1])[None, :]
        start = size // 2
        out.append(inverse_rfft2(spectrum * transfer, full)[..., start : start + h, start : start + w])
    return out


def _masked_contrast(planes: Tensor) -> Tensor:
    """Local band-limited contrast after contrast-sensitivity filtering and masking; 0 where the surround is black."""
    h, w = planes.shape[-2:]
    r = radius((h, w), h / 30, w / 30, planes)
    sensitivity = torch.exp(-((r / 15.3870) ** 2)) - 0.7622 * torch.exp(-((r / 1.3456) ** 2))
    seen = inverse_rfft2(torch.fft.rfft2(planes) * sensitivity, (h, w))
    centre, surround = _blurred(seen, (2.0, 4.0), 31)
    dark = surround.abs() <= 1e-9  # rounding noise of the transforms; gray levels reach 255
    contrast = torch.where(dark, 0, (centre / torch.where(dark, 1, surround) - 1).abs())
    return contrast**3 / (contrast**2 + 0.0001)


def _chen_blum(planes: Tensor) -> Tensor:
    c_a, c_b, c_f = _masked_contrast(planes)

    def preserved(c: Tensor) -> Tensor:
        high = torch.maximum(c, c_f)
        return torch.where(high > 0, torch.minimum(c, c_f) / torch.where(high > 0, high, 1), 1)

    part = share(c_a * c_a, c_b * c_b)
    return (part * preserved(c_a) + (1 - part) * preserved(c_b)).mean((-2, -1))


@metric(
    "qcb",
    symbol="Q_CB",
    title="Chen and Blum's perceptual quality",
    bounds=(0, 1),
    source="Chen and Blum 2009, DoG contrast sensitivity",
    double=True,
)
def qcb(t: Triple) -> Tensor:
    """How much of the sources' masked local contrast the fused image keeps, weighted by its saliency.

    In [0, 1], higher is better. Two black or equally empty places count as preserved.
    """
    return _chen_blum(t.stack)


@variant("qcb", "vifb")
def qcb_vifb(t: Triple) -> Tensor:
    """VIFB: each image is stretched to 0..255 and rounded first (the toolbox gives NaN on constant images)."""
    return _chen_blum(t.stretched)


@variant("qcb", "mefb", "liu")
def qcb_liu(t: Triple) -> Tensor:
    """Liu and MEFB: as VIFB, but the stretch starts from images in [0, 1], which rounds some ties the other way."""
    return _chen_blum(
        t.once("stretched unit", lambda: torch.where(_constant(t.stack), t.stack, stretch(t.stack / 255)))
    )


def _constant(planes: Tensor) -> Tensor:
    return planes.amin((-2, -1), keepdim=True) == planes.amax((-2, -1), keepdim=True)


def _block_sums(planes: Tensor) -> Tensor:
    """Sums over 16 x 16 blocks `(..., H, W) -> (..., h, w)`; blocks that cross the lower or right edge are cut."""
    h, w = planes.shape[-2:]
    padded = F.pad(planes, (0, -w % BLOCK, 0, -h % BLOCK))
    return padded.unflatten(-1, (-1, BLOCK)).sum(-1).unflatten(-2, (-1, BLOCK)).sum(-2)


def _chen_varshney(planes: Tensor, strength: Tensor, cut_blocks_by_area: bool) -> Tensor:
    """Q_CV of planes `(3, N, H, W)` and the Sobel magnitudes of the sources `(2, N, H, W)`."""
    h, w = planes.shape[-2:]
    saliency = _block_sums(strength**5)
    r = radius((h, w), h / 8, w / 8, planes)
    sensitivity = 2.6 * (0.0192 + 0.144 * r) * torch.exp(-((0.144 * r) ** 1.1))
    spectrum = torch.fft.rfft2(planes)
    seen = inverse_rfft2((spectrum[:2] - spectrum[2]) * sensitivity, (h, w))
    area: Tensor | float = BLOCK**2
    if cut_blocks_by_area:
        area = _block_sums(torch.ones_like(planes[0, :1]))
    error = _block_sums(seen * seen) / area
    total = saliency.sum((0, -2, -1))
    weighted = (saliency * error).sum((0, -2, -1)) / torch.where(total > 0, total, 1)
    return torch.where(total > 0, weighted, error.mean((0, -2, -1)))


@metric(
    "qcv",
    symbol="Q_CV",
    title="Chen and Varshney's perceptual error",
    direction="min",
    bounds=(0, None),
    decimals=3,
    source="Chen and Varshney 2007",
)
def qcv(t: Triple) -> Tensor:
    """Mean squared visible error to the sources in 16 x 16 blocks, weighted by the blocks' edges; lower is better.

    Blocks cut by the image's edge count by their own area; without any edge all blocks count alike.
    """
    return _chen_varshney(t.stack, edges(t)[2][:2], cut_blocks_by_area=True)


@variant("qcv", "vifb", "mefb", "liu")
def qcv_toolbox(t: Triple) -> Tensor:
    """Toolboxes: images stretched to 0..255 and rounded; cut blocks filled with zeros (NaN on constant images)."""
    strength = magnitude(*sobel(t.stretched[:2], "zero"))
    return _chen_varshney(t.stretched, strength, cut_blocks_by_area=False)
