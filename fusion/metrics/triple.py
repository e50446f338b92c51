"""The planes that metrics are computed on, with what several metrics share computed once."""

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


class Triple:
    """Planes of the sources and of the fused image.

    Args:
        a: `(N, H, W)`, grey values in 0..255 (real numbers).
        b: as `a`.
        fused: as `a`.
    """

    def __init__(self, a: Tensor, b: Tensor, fused: Tensor) -> None:
        self.stack = torch.stack((a, b, fused))  # (3, N, H, W)
        self.a, self.b, self.fused = self.stack.unbind(0)
        self._memo: dict[Hashable, object] = {}

    def once(self, key: Hashable, function: Callable[[], T]) -> T:
        """The value of `function()`, computed on the first call with `key` and remembered."""
        if key not in self._memo:
            self._memo[key] = function()
        return cast(T, self._memo[key])

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.a.shape[-2], self.a.shape[-1]

    @property
    def levels(self) -> Tensor:
        """`(3, N, H, W)` int64 grey levels 0..255, rounded half up: what histograms count. No gradient passes."""
        return self.once("levels", lambda: (self.stack.detach() + 0.5).clamp_(0, 255).long())

    @property
    def stretched(self) -> Tensor:
        """`(3, N, H, W)`: `stretch` of every plane."""
        return self.once("stretched", lambda: stretch(self.stack))


def stretch(planes: Tensor) -> Tensor:
    """Min-max stretch to 0..255, rounded half up, as Liu's toolbox normalises its inputs (`normalize1`).

    The toolbox divides zero by zero on a constant plane that is not black; here a constant plane stays as it is.

    Args:
        planes: `(..., H, W)`, any range.

    Returns:
        `(..., H, W)` whole numbers in 0..255; constant planes unchanged. No gradient passes the rounding.
    """
    low, high = planes.amin((-2, -1), keepdim=True), planes.amax((-2, -1), keepdim=True)
    constant = high == low
    # divided first and multiplied after, as the toolbox does: the order decides the ties of the rounding
    unit = (planes - low) / torch.where(constant, 1, high - low)
    return torch.where(constant, planes, (unit * 255 + 0.5).floor())
