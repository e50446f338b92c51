"""Metrics of information theory: what the histograms say the fused image kept."""

import math

import torch
from torch import Tensor

from fusion.metrics.histograms import Information, entropy, joint_histogram, of_levels, of_stretched
from fusion.metrics.registry import metric, variant
from fusion.metrics.triple import Triple

TOOLBOX = ("vifb", "mefb", "tang", "tang_legacy")
TSALLIS_ORDER = 1.85  # Cvejic, Canagarajah and Bull 2006
NAVA_ORDER = 0.43137  # Nava, Cristobal and Escalante-Ramirez 2007


@metric(
    "en",
    symbol="EN",
    title="entropy of the fused image",
    bounds=(0, 8),
    differentiable=False,
    source="Roberts, van Aardt and Ahmed 2008",
    also=TOOLBOX,
)
def en(t: Triple) -> Tensor:
    """Shannon entropy of the fused image's 256 gray levels in bits; in [0, 8], higher is better."""
    return entropy(of_levels(t).p_fused)


@metric(
    "ce",
    symbol="CE",
    title="cross entropy of the sources against the fused image",
    direction="min",
    differentiable=False,
    source="Bulanon, Burks and Alchanatis 2009",
    also=("vifb", "mefb"),
)
def ce(t: Triple) -> Tensor:
    """Mean over the sources of `sum p_X log2(p_X / p_F)`, over gray levels that both images use; lower is better.

    Levels that only the source uses would make the divergence infinite; the toolboxes and this function leave them
    out, so the value can be slightly negative. 0 where no level is shared.
    """
    p_a, p_b, p_f = of_levels(t).p

    def divergence(p: Tensor) -> Tensor:
        both = (p > 0) & (p_f > 0)
        ratio = torch.where(both, p, 1) / torch.where(both, p_f, 1)
        return (p * ratio.log2() * both).sum(1)

    return (divergence(p_a) + divergence(p_b)) / 2


@metric(
    "mi",
    symbol="MI",
    title="mutual information",
    bounds=(0, 16),
    differentiable=False,
    source="Qu, Zhang and Yan 2002",
)
def mi(t: Triple) -> Tensor:
    """`I(A, F) + I(B, F)` in bits, from joint histograms of 256 x 256 gray levels; in [0, 16], higher is better."""
    return sum(of_levels(t).mutual, start=torch.zeros((), device=t.a.device))


@variant("mi", "vifb")
def mi_vifb(t: Triple) -> Tensor:
    """VIFB: each image is stretched to 0..255 first, natural logarithm, sum over the sources."""
    i_a, i_b = of_stretched(t).mutual
    return (i_a + i_b) * math.log(2)


@variant("mi", "tang", "tang_legacy")
def mi_tang(t: Triple) -> Tensor:
    """Tang: bits, sum over the sources; the joint histogram alone counts levels 254 and 255 in one bin.

    The toolbox indexes it with `level + 1` in 8 bits, which saturates; the marginal histograms are right, so the value
    comes out up to 0.02 too high.
    """
    a, b, f = (t.levels(image).clamp(max=254) for image in range(3))
    h_a, h_b, h_f = of_levels(t).h
    return h_a + h_b + 2 * h_f - entropy(joint_histogram(a, f)) - entropy(joint_histogram(b, f))


def _normalised(mutual: tuple[Tensor, Tensor], h: Tensor) -> Tensor:
    h_a, h_b, h_f = h
    (i_a, i_b), (s_a, s_b) = mutual, (h_a + h_f, h_b + h_f)
    # two constant images share nothing: 0/0 counts as 0
    return 2 * (i_a / torch.where(s_a > 0, s_a, 1) + i_b / torch.where(s_b > 0, s_b, 1))


@metric(
    "nmi",
    symbol="NMI",
    title="normalised mutual information, Q_MI",
    bounds=(0, 2),
    differentiable=False,
    source="Hossny, Nahavandi and Creighton 2008, Eq. 4",
)
def nmi(t: Triple) -> Tensor:
    """`2 [I(A,F) / (H(A)+H(F)) + I(B,F) / (H(B)+H(F))]`, in [0, 2], higher is better; a constant pair adds 0."""
    stats = of_levels(t)
    return _normalised(stats.mutual, stats.h)


@variant("nmi", "mefb", "liu")
def nmi_liu(t: Triple) -> Tensor:
    """As `exact`, after each image is stretched to 0..255 (the toolbox crashes on a constant image; here it adds 0)."""
    stats = of_stretched(t)
    return _normalised(stats.mutual, stats.h)


def _correlation_entropy(h: Tensor, h_ab: Tensor, h_af: Tensor, h_bf: Tensor) -> Tensor:
    r_ab, r_af, r_bf = ((x + y - xy) / 8 for x, y, xy in ((h[0], h[1], h_ab), (h[0], h[2], h_af), (h[1], h[2], h_bf)))
    one = torch.ones_like(r_ab)
    rows = torch.stack((one, r_ab, r_af, r_ab, one, r_bf, r_af, r_bf, one), -1)
    # Jacobi-like closed forms exist, but a batch of 3 x 3 matrices is cheap as it is
    eigenvalues = torch.linalg.eigvalsh(rows.reshape(-1, 3, 3)).clamp_min(0)
    return 1 - entropy(eigenvalues / 3, base=256)


@metric(
    "qncie",
    symbol="Q_NCIE",
    title="nonlinear correlation information entropy",
    bounds=(0, 1),
    differentiable=False,
    source="Wang, Shen and Zhang 2005; Wang, Shen and Jin 2008",
)
def qncie(t: Triple) -> Tensor:
    """Nonlinear correlation of the three images: entropy of their correlation matrix's eigenvalues; higher is better.

    Off-diagonals are mutual information in units of 8 bits, so values lie between about 0.80 and 1, and identical
    images stay below 1.
    """
    stats = of_levels(t)
    return _correlation_entropy(stats.h, stats.h_ab, stats.h_af, stats.h_bf)


@variant("qncie", "mefb", "liu")
def qncie_liu(t: Triple) -> Tensor:
    """As `exact`, after each image is stretched to 0..255 (the toolbox crashes on a constant image)."""
    stats = of_stretched(t)
    return _correlation_entropy(stats.h, stats.h_ab, stats.h_af, stats.h_bf)


def _tsallis(joint: Tensor, p_x: Tensor, p_f: Tensor, q: float, swapped: bool) -> Tensor:
    """`sum h^q / (p_x p_f)^(q-1)`; `swapped` reads each marginal at the other's gray level, as Liu's code does."""
    product = p_f[:, :, None] * p_x[:, None, :] if swapped else p_x[:, :, None] * p_f[:, None, :]
    used = (product > 0) & (joint > 0)
    return torch.where(used, joint.pow(q) / torch.where(used, product, 1).pow(q - 1), 0).flatten(1).sum(1)


@metric(
    "te",
    symbol="TE",
    title="mutual information of Tsallis entropy",
    bounds=(0, None),
    differentiable=False,
    source="Cvejic, Canagarajah and Bull 2006, order q = 1.85",
)
def te(t: Triple) -> Tensor:
    """`(1 - S) / (1 - q)` over the sources, `S = sum h(i,j)^q / (p_X(i) p_F(j))^(q-1)`, q = 1.85; higher is better."""
    stats = of_levels(t)
    s_a = _tsallis(stats.joint_af, stats.p[0], stats.p[2], TSALLIS_ORDER, swapped=False)
    s_b = _tsallis(stats.joint_bf, stats.p[1], stats.p[2], TSALLIS_ORDER, swapped=False)
    return (2 - s_a - s_b) / (1 - TSALLIS_ORDER)


@variant("te", "mefb", "liu")
def te_liu(t: Triple) -> Tensor:
    """Liu and MEFB: images stretched first, and the marginals swapped by mistake, so values are huge and erratic."""
    stats = of_stretched(t)
    s_a = _tsallis(stats.joint_af, stats.p[0], stats.p[2], TSALLIS_ORDER, swapped=True)
    s_b = _tsallis(stats.joint_bf, stats.p[1], stats.p[2], TSALLIS_ORDER, swapped=True)
    return (2 - s_a - s_b) / (1 - TSALLIS_ORDER)


@metric(
    "te_nava",
    symbol="TE_N",
    title="normalised mutual information of Tsallis entropy",
    differentiable=False,
    source="Nava, Cristobal and Escalante-Ramirez 2007, order q = 0.43137",
)
def te_nava(t: Triple) -> Tensor:
    """`(I(A,F) + I(B,F)) / (H(A) + H(B) - I(A,B))` in Tsallis form; higher is better, 0 for constant sources."""
    stats, q = of_levels(t), NAVA_ORDER
    i_af, i_bf, i_ab = _tsallis_information(stats, q, swapped=False)
    h_a, h_b = ((1 - torch.where(p > 0, p, 0).pow(q).sum(1)) / (q - 1) for p in stats.p[:2])
    scale = h_a + h_b - i_ab
    return (i_af + i_bf) / torch.where(scale > 0, scale, 1)


@variant("te_nava", "liu")
def te_nava_liu(t: Triple) -> Tensor:
    """Liu: images stretched, marginals swapped, and Shannon entropies raised to the power q over `... + I(A,B)`."""
    stats, q = of_stretched(t), NAVA_ORDER
    i_af, i_bf, i_ab = _tsallis_information(stats, q, swapped=True)
    scale = stats.h[0] ** q + stats.h[1] ** q + i_ab
    return (i_af + i_bf) / torch.where(scale > 0, scale, 1)


def _tsallis_information(stats: Information, q: float, swapped: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Tsallis mutual information of order q of (a, fused), (b, fused) and (a, b), each `(N,)`."""
    p_a, p_b, p_f = stats.p
    s_af = _tsallis(stats.joint_af, p_a, p_f, q, swapped)
    s_bf = _tsallis(stats.joint_bf, p_b, p_f, q, swapped)
    s_ab = _tsallis(stats.joint_ab, p_a, p_b, q, swapped)
    return (1 - s_af) / (1 - q), (1 - s_bf) / (1 - q), (1 - s_ab) / (1 - q)
