"""The planes that metrics are computed on, with what several metrics share computed once."""

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")
Source = Tensor | Callable[[], Tensor]


class Triple:
    """Planes of the sources and of the fused image, each made when a metric first asks for it.

    Args:
        a: `(N, H, W)`, gray values in 0..255 (real numbers), or a function that gives them.
        b: as `a`.
        fused: as `a`.
    """

    def __init__(self, a: Source, b: Source, fused: Source) -> None:
        self._sources = (a, b, fused)
        self._memo: dict[Hashable, object] = {}

    def plane(self, image: int) -> Tensor:
        """`(N, H, W)` of image 0, 1 or 2: a, b, fused."""
        source = self._sources[image]
        return source if isinstance(source, Tensor) else self.once(("plane", image), source)

    @property
    def a(self) -> Tensor:
        """The first source, `(N, H, W)`."""
        return self.plane(0)

    @property
    def b(self) -> Tensor:
        """The second source, `(N, H, W)`."""
        return self.plane(1)

    @property
    def fused(self) -> Tensor:
        """The fused image, `(N, H, W)`."""
        return self.plane(2)

    @property
    def stack(self) -> Tensor:
        """All three, `(3, N, H, W)`."""
        return self.once("stack", lambda: torch.stack((self.a, self.b, self.fused)))

    def once(self, key: Hashable, function: Callable[[], T]) -> T:
        """The value of `function()`, computed on the first call with `key` and remembered."""
        if key not in self._memo:
            self._memo[key] = function()
        return cast(T, self._memo[key])

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.fused.shape[-2], self.fused.shape[-1]

    def levels(self, image: int) -> Tensor:
        """`(N, H, W)` uint8 gray levels of an image, rounded half up: what histograms count. No gradient passes."""
        return self.once(("levels", image), lambda: (self.plane(image).detach() + 0.5).clamp_(0, 255).byte())

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
