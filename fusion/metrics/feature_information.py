"""FMI: mutual information of local features (Haghighat, Aghagolzadeh and Seyedarabi 2011; fast form 2014).

Each 3 x 3 window of a feature map, normalised to sum 1, is read as the distribution of a variable over its nine
positions. The joint distribution of two windows is modelled as a mixture of independence and of the Frechet bound that
the sign of their correlation asks for; FMI is the mean of `2 I / (H + H)` over windows and sources.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from fusion.metrics.feature_maps import dct_map, edge_map, gradient_map, wavelet_map
from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple

SIDE = 3
CELLS = SIDE**2
CHUNK = 1 << 13  # windows at a time, so that the nine-column arrays stay in a core's cache
GPU_CHUNK = 1 << 21  # windows at a time on a GPU: some thirty arrays of 75 MB
VARIED = 1e-3  # variance of a stretched window's distribution, times 9: 0 or at least 1/72
FLAT = 1e-10  # window range, relative to the map's, that is rounding noise of a transform


def _distributions(windows: Tensor, flat: Tensor) -> Tensor:
    """Windows `(9, ...)` stretched to [0, 1] and divided by their sum; uniform where constant. In float32."""
    low, high = windows.amin(0), windows.amax(0)
    p = (windows - low).masked_fill_(high - low <= flat, 1).float()
    return p.div_(p.sum(0))


def _log_square(x: Tensor) -> Tensor:
    """`log x^2`, finite at 0: `x log |x|` is half of it times x, also for the negative masses of an extrapolation."""
    return torch.addcmul(x.new_full((), 1e-37), x, x).log_()


def _window_information(p: Tensor, q: Tensor) -> Tensor:
    """`2 I / (H(p) + H(q))` of columns of `p` and `q` `(9, n)`.

    The mixture's weight is the windows' correlation over that of the bound, and may exceed 1; the published code then
    takes the logarithm of the magnitude of negative masses, and so does this.
    """
    total = -(_log_square(p) * p + _log_square(q) * q).sum(0)  # of two entropies, doubled
    pp, qq, pq = ((x * y).sum(0) - 1 / CELLS for x, y in ((p, p), (q, q), (p, q)))
    varied = (pp > VARIED) & (qq > VARIED)
    r = torch.where(varied, pq / torch.where(varied, pp * qq, 1).sqrt(), 0)
    # the lower bound of (X, Y) is the upper bound of (X, reversed Y)
    q = torch.where(r < 0, q.flip(0), q)
    position = torch.arange(1, CELLS + 1, device=p.device, dtype=p.dtype)
    powers = torch.stack((position, position**2))
    if p.device.type == "cpu":
        (mean_p, square_p), (mean_q, square_q) = powers @ p, powers @ q
    else:  # without a product of matrices, which may be in TF32
        (mean_p, square_p), (mean_q, square_q) = ((powers[..., None] * x).sum(1) for x in (p, q))
    var_p, var_q = square_p - mean_p**2, square_q - mean_q**2
    cdf_p, cdf_q = p.cumsum(0), q.cumsum(0)
    below_p, below_q = cdf_p - p, cdf_q - q

    upper = [torch.minimum(cdf_p, cdf_q[j]) for j in range(CELLS)]  # the bound's distribution function
    covariance = sum((u.sum(0) for u in upper), start=-cdf_p.sum(0) * cdf_q.sum(0))
    spread = (var_p.clamp_min(0) * var_q.clamp_min(0)).sqrt()
    usable = (spread > 0) & (covariance > 0)
    weight = torch.where(usable, r.abs() * spread / torch.where(usable, covariance, 1), 0)
    rest = (1 - weight) * q
    joint = torch.zeros_like(p)
    for j in range(CELLS):
        mass = upper[j].sub_(torch.maximum(below_p, below_q[j])).clamp_min_(0).mul_(weight).addcmul_(p, rest[j])
        joint.addcmul_(_log_square(mass), mass, value=-1)
    return torch.where(total > 0, 2 * (total - joint.sum(0)) / torch.where(total > 0, total, 1), 0)


def _windows(planes: Tensor) -> Tensor:
    """`(N, H, W)` -> `(9, N, h * w)`, each window read column by column."""
    h, w = planes.shape[-2] - SIDE + 1, planes.shape[-1] - SIDE + 1
    return torch.stack([planes[:, i : i + h, j : j + w].flatten(1) for j in range(SIDE) for i in range(SIDE)])


def _smooth_features(t: Triple, feature: Callable[[Tensor], Tensor]) -> Tensor:
    """FMI of real-valued feature maps, `(N,)`."""
    maps = feature(t.stack.detach())  # (3, N, h, w)
    flat = FLAT * (maps.amax((-2, -1)) - maps.amin((-2, -1)))[..., None]  # (3, N, 1)
    h, w = maps.shape[-2] - SIDE + 1, maps.shape[-1] - SIDE + 1
    on_cpu = maps.device.type == "cpu"
    images, rows = (1, max(1, CHUNK // w)) if on_cpu else (max(1, GPU_CHUNK // (h * w)), h)
    total = maps.new_zeros(maps.shape[1])
    for i in range(0, maps.shape[1], images):
        group = slice(i, i + images)
        for row in range(0, h, rows):
            a, b, fused = (_windows(m[group, row : row + rows + SIDE - 1]) for m in maps)
            p_f = _distributions(fused, flat[2, group]).flatten(1)
            for k, source in enumerate((a, b)):
                same = (source == fused).all(0)
                value = _window_information(_distributions(source, flat[k, group]).flatten(1), p_f)
                total[group] += torch.where(same, 1, value.view_as(same)).sum(1, dtype=maps.dtype)
    return total / (2 * h * w)


@functools.lru_cache(maxsize=4)
def _edge_table(device: torch.device) -> Tensor:
    """Information of every pair of the 512 binary windows, `(512 * 512,)` float64: x's code times 512 plus fused's."""
    with torch.inference_mode(False):  # what is kept between calls must serve with gradients as well
        code = torch.arange(2**CELLS, device=device)
        patterns = (code // 2 ** torch.arange(CELLS, device=device)[:, None] % 2).double()
        table = _distributions(patterns, patterns.new_zeros(1))
        x, f = code.repeat_interleave(2**CELLS), code.repeat(2**CELLS)
        step = CHUNK if device.type == "cpu" else len(x)
        pairs = zip(x.split(step), f.split(step), strict=True)
        return torch.cat(
            [torch.where(i == j, 1, _window_information(table[:, i], table[:, j])).double() for i, j in pairs]
        )


def _edge_features(t: Triple) -> Tensor:
    """FMI of binary edge maps, `(N,)`: there are only 512 windows, whose pairs are computed once for all images."""
    edges = edge_map(t.stack.detach()).to(torch.int32)
    h, w = edges.shape[-2] - SIDE + 1, edges.shape[-1] - SIDE + 1
    code = torch.zeros_like(edges[..., :h, :w])
    for k in range(CELLS):
        j, i = divmod(k, SIDE)
        code.add_(edges[..., i : i + h, j : j + w], alpha=2**k)
    pairs = (code[:2] * 2**CELLS + code[2]).transpose(0, 1).flatten(1)  # (N, 2 h w)
    return _edge_table(pairs.device)[pairs].mean(1).to(t.a.dtype)


@metric(
    "fmi",
    symbol="FMI",
    title="feature mutual information of edges",
    bounds=(0, 1),
    differentiable=False,
    source="Haghighat and Razian 2014, Sobel edges",
    also=("mefb", "tang", "tang_legacy"),
    double=True,
)
def fmi(t: Triple) -> Tensor:
    """FMI of thinned Sobel edge maps; in [0, 1], higher is better. The default feature of the published code."""
    return t.once("fmi edge", lambda: _edge_features(t))


@metric(
    "fmi_pixel",
    symbol="FMI_pixel",
    title="feature mutual information of gray values",
    bounds=(0, 1),
    differentiable=False,
    source="Haghighat and Razian 2014, raw gray values",
)
def fmi_pixel(t: Triple) -> Tensor:
    """FMI of the gray values themselves; in [0, 1], higher is better."""
    return _smooth_features(t, lambda planes: planes)


@variant("fmi_pixel", "tang", "tang_legacy", double=True)
def fmi_pixel_tang(t: Triple) -> Tensor:
    """Tang: what its tables call FMI_pixel is FMI of Sobel edges, the default of the function it calls."""
    return fmi(t)


@metric(
    "fmi_gradient",
    symbol="FMI_grad",
    title="feature mutual information of gradients",
    bounds=(0, 1),
    differentiable=False,
    source="Haghighat and Razian 2014, horizontal gradient",
    also=("tang", "tang_legacy"),
    double=True,
)
def fmi_gradient(t: Triple) -> Tensor:
    """FMI of the central differences along columns (the published code takes no other); in [0, 1], higher is better."""
    return _smooth_features(t, gradient_map)


@metric(
    "fmi_dct",
    symbol="FMI_dct",
    title="feature mutual information of DCT coefficients",
    bounds=(0, 1),
    differentiable=False,
    source="Haghighat and Razian 2014, DCT of the whole image",
    also=("tang", "tang_legacy"),
    double=True,
)
def fmi_dct(t: Triple) -> Tensor:
    """FMI of the coefficients of the whole image's DCT; in [0, 1], higher is better."""
    return _smooth_features(t, dct_map)


@metric(
    "fmi_wavelet",
    symbol="FMI_w",
    title="feature mutual information of wavelet coefficients",
    bounds=(0, 1),
    differentiable=False,
    source="Haghighat and Razian 2014, discrete Meyer wavelet",
    also=("tang", "tang_legacy"),
    double=True,
)
def fmi_wavelet(t: Triple) -> Tensor:
    """FMI of one level of the discrete Meyer transform, its four bands side by side; in [0, 1], higher is better."""
    return _smooth_features(t, wavelet_map)
