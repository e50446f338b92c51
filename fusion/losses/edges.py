"""Edge preservation as a training term: what the metric Q_ABF asks of a fused picture."""

from torch import Tensor

from fusion.metrics.gradient import qabf
from fusion.metrics.inputs import planes


def edge_preservation(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Mean Q_ABF over the batch (Xydeas and Petrovic 2000), on luma.

    Edges count by their strength in the sources, so that flat areas and their noise hardly do; a gradient loss to the
    stronger source asks for the stronger noise too.

    Args:
        fused, a, b: `(B, 3, H, W)` in [0, 1].

    Returns:
        Scalar in [0, 0.9874], higher is better.
    """
    triple, _ = planes(255 * a, 255 * b, 255 * fused, "luma", quantise=False)
    return qabf(triple).mean()
