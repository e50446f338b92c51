"""Metrics of pixel statistics: contrast, sharpness, errors and correlations. Gray values are in 0..255."""

from collections.abc import Callable

import torch
from torch import Tensor

from fusion.metrics.filters import central_difference, magnitude, root, sobel
from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple

TANG = ("tang", "tang_legacy")


def _mean(planes: Tensor) -> Tensor:
    return planes.mean((-2, -1))


@metric(
    "sd",
    symbol="SD",
    title="standard deviation of the fused image",
    bounds=(0, 127.5),
    source="Rao 1997",
    also=("vifb", "mefb", "tang"),
)
def sd(t: Triple) -> Tensor:
    """Population standard deviation of the fused image in gray levels (0..255); in [0, 127.5], higher is better."""
    return root(_mean((t.fused - _mean(t.fused)[:, None, None]) ** 2))


@variant("sd", "tang_legacy", double=True)
def sd_legacy(t: Triple) -> Tensor:
    """What published TNO tables hold: deviations in unsigned bytes, typically 8 to 10, never above 15.97.

    Below the mean the deviation is 0, and squares stop at 255.
    """
    deviation = (t.fused - _mean(t.fused)[:, None, None] + 0.5).floor().clamp(0, 255)
    return root(_mean((deviation**2).clamp(max=255)))


def _differences(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of squared first differences along columns and rows, each `(N,)`."""
    return (planes.diff(dim=-1) ** 2).sum((-2, -1)), (planes.diff(dim=-2) ** 2).sum((-2, -1))


@metric(
    "sf",
    symbol="SF",
    title="spatial frequency of the fused image",
    bounds=(0, 360.63),
    source="Eskicioglu and Fisher 1995",
    also=("tang",),
)
def sf(t: Triple) -> Tensor:
    """Root of the mean squared horizontal plus vertical first differences of gray levels 0..255; higher is better.

    Each mean runs over the differences that exist, as in Tang's toolbox; VIFB and MEFB divide by the number of pixels.
    """
    (h, w), (rows, columns) = t.shape, _differences(t.fused)
    return root(rows / (h * (w - 1)) + columns / ((h - 1) * w))


@variant("sf", "tang_legacy")
def sf_legacy(t: Triple) -> Tensor:
    """As in Tang's code, on images in [0, 1]: published values lie below 0.1."""
    return sf(t) / 255


@variant("sf", "mefb")
@variant("sf", "vifb", color="columns")
def sf_vifb(t: Triple) -> Tensor:
    """VIFB and MEFB: sums divided by the number of pixels.

    VIFB reads a color image as one H x 3W plane and so counts the jumps between the channel planes; MEFB takes the
    mean over the channels.
    """
    (h, w), (rows, columns) = t.shape, _differences(t.fused)
    return root((rows + columns) / (h * w))


@metric(
    "ag",
    symbol="AG",
    title="average gradient of the fused image",
    bounds=(0, None),
    source="Cui et al. 2015",
    also=("vifb", *TANG),
)
def ag(t: Triple) -> Tensor:
    """Sum of `sqrt((dx^2 + dy^2) / 2)` of gray levels 0..255 over all pixels, divided by (H-1)(W-1); higher is better.

    Central differences, one-sided at the border. All toolboxes agree on this form.
    """
    h, w = t.shape
    return magnitude(*central_difference(t.fused)).sum((-2, -1)) / (2**0.5 * (h - 1) * (w - 1))


variant("ag", "mefb", gray="real_luma")(ag)  # the toolbox takes luma, unrounded, of a color image from gray sources


@metric(
    "ei",
    symbol="EI",
    title="edge intensity of the fused image",
    bounds=(0, None),
    source="Rajalingam and Priya 2018",
    also=("vifb", "mefb"),
)
def ei(t: Triple) -> Tensor:
    """Mean Sobel magnitude (unnormalised kernels, replicated border) of gray levels 0..255; higher is better."""
    return _mean(magnitude(*sobel(t.fused, "replicate")))


def _mse(t: Triple) -> tuple[Tensor, Tensor]:
    """Mean squared error of the fused image to each source, images in [0, 1]."""
    a, b = (_mean((x - t.fused).square()) / 255**2 for x in (t.a, t.b))
    return a, b


@metric(
    "mse",
    symbol="MSE",
    title="mean squared error to the sources",
    direction="min",
    bounds=(0, 1),
    source="mean over the two sources",
    also=TANG,
)
def mse(t: Triple) -> Tensor:
    """Mean over the sources of the mean squared error, images in [0, 1]; in [0, 1], lower is better."""
    a, b = _mse(t)
    return (a + b) / 2


@metric(
    "rmse",
    symbol="RMSE",
    title="root mean squared error to the sources",
    direction="min",
    bounds=(0, 1),
    source="mean over the two sources",
)
def rmse(t: Triple) -> Tensor:
    """Mean over the sources of the root mean squared error, images in [0, 1]; in [0, 1], lower is better."""
    a, b = _mse(t)
    return (root(a) + root(b)) / 2


def _vifb_error(t: Triple) -> Tensor:
    """VIFB's helper "mse": the Frobenius norm of the error over the number of pixels, gray levels 0..255."""
    h, w = t.shape
    a, b = _mse(t)
    return (root(a) + root(b)) / 2 * 255 / (h * w) ** 0.5


@variant("rmse", "vifb")
def rmse_vifb(t: Triple) -> Tensor:
    """VIFB: Frobenius norm of the error divided by the number of pixels, so it falls with the size of the image."""
    return _vifb_error(t)


@metric(
    "psnr",
    symbol="PSNR",
    title="peak signal-to-noise ratio to the sources",
    bounds=(0, None),
    source="peak 1, mean squared error averaged over the two sources",
)
def psnr(t: Triple) -> Tensor:
    """`-10 log10` of the mean over the sources of the mean squared error, images in [0, 1], in dB; higher is better.

    Infinite where the fused image equals both sources; the gradient is 0 there.
    """
    return _decibels(mse(t), lambda error: -10 * error.log10())


def _decibels(error: Tensor, formula: Callable[[Tensor], Tensor]) -> Tensor:
    """`formula(error)`, infinite without a gradient where there is no error."""
    some = error > 0
    return torch.where(some, formula(torch.where(some, error, 1)), torch.inf)


@variant("psnr", "tang", "tang_legacy")
def psnr_tang(t: Triple) -> Tensor:
    """Tang: peak 255 over errors in [0, 1], that is 48.13 dB above `exact`."""
    return _decibels(mse(t), lambda error: 20 * torch.log10(255 / error.sqrt()))


@variant("psnr", "vifb", "mefb")
def psnr_vifb(t: Triple) -> Tensor:
    """VIFB and MEFB: `20 log10(255 / sqrt(e))` with e the Frobenius norm of the error over the number of pixels."""
    return _decibels(_vifb_error(t), lambda error: 20 * torch.log10(255 / error.sqrt()))


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Pearson correlation of planes `(N, H, W)`, `(N,)` in [-1, 1]; 0 where one of them is constant."""
    dx, dy = x - _mean(x)[:, None, None], y - _mean(y)[:, None, None]
    square = (dx * dx).sum((-2, -1)) * (dy * dy).sum((-2, -1))
    # rounding leaves about 1e-26 of the sums of squares in a constant plane
    scale = (x * x).sum((-2, -1)) * (y * y).sum((-2, -1))
    varies = square > scale * torch.finfo(x.dtype).eps ** 2
    return (dx * dy).sum((-2, -1)) / torch.where(varies, square, 1).sqrt() * varies


@metric(
    "cc",
    symbol="CC",
    title="correlation coefficient with the sources",
    bounds=(-1, 1),
    source="Deshmukh and Bhosale 2010",
    also=TANG,
    double=True,
)
def cc(t: Triple) -> Tensor:
    """Mean of the Pearson correlations of the fused image with each source; in [-1, 1], higher is better.

    A constant image correlates with nothing: 0 (the toolbox gives NaN or infinity).
    """
    return (pearson(t.a, t.fused) + pearson(t.b, t.fused)) / 2


@metric(
    "scd",
    symbol="SCD",
    title="sum of the correlations of differences",
    bounds=(-2, 2),
    source="Aslantas and Bendes 2015",
    also=TANG,
    double=True,
)
def scd(t: Triple) -> Tensor:
    """`r(F - B, A) + r(F - A, B)`; in [-2, 2], higher is better; a constant difference or source adds 0."""
    return pearson(t.fused - t.b, t.a) + pearson(t.fused - t.a, t.b)


DIAGONAL = 2**0.5 / 2  # weight of the diagonal differences, the inverse of their distance


def _four_differences(planes: Tensor) -> list[Tensor]:
    """First differences along columns, rows and the two diagonals."""
    return [
        planes[..., :, 1:] - planes[..., :, :-1],
        planes[..., 1:, :] - planes[..., :-1, :],
        planes[..., 1:, 1:] - planes[..., :-1, :-1],
        planes[..., 1:, :-1] - planes[..., :-1, 1:],
    ]


@metric(
    "qsf",
    symbol="Q_SF",
    title="ratio of spatial frequency error",
    bounds=(-1, None),
    source="Zheng et al. 2007",
    also=("liu",),
)
def qsf(t: Triple) -> Tensor:
    """`(SF_F - SF_R) / SF_R` with differences in four directions; R takes the larger of the sources' differences.

    0 is ideal, below 0 detail was lost, above 0 it was exaggerated or noise was added; toolboxes rank higher as better.
    0 where neither the sources nor the fused image have any detail, and where the sources alone have none.
    """
    weights = (1.0, 1.0, DIAGONAL, DIAGONAL)
    energy = [w * (d * d).sum((-2, -1)) for w, d in zip(weights, _four_differences(t.fused), strict=True)]
    fused = torch.stack(energy).sum(0)
    pairs = zip(_four_differences(t.a), _four_differences(t.b), strict=True)
    larger = [torch.maximum(a.abs(), b.abs()) for a, b in pairs]
    reference = torch.stack([w * (d * d).sum((-2, -1)) for w, d in zip(weights, larger, strict=True)]).sum(0)
    detail = reference > 0
    ratio = root(fused / torch.where(detail, reference, 1))
    return torch.where(detail, ratio - 1, 0)
