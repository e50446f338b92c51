"""Rules that make the two images of a fusion task out of one photograph: two focal planes, two exposures.

Both are the data augmentation of GIFNet (CVPR 2025, supplement Sec. 3). A rule works in two steps, so that only crops
are blurred and only what belongs to the whole picture is decided on the whole picture: `plan` draws from the generator
what holds for the image, `make` turns a crop into two images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from fusion.data.synthesis.depth import DepthPlane, DepthSource
from fusion.data.synthesis.scenes import to_display, to_linear
from fusion.errors import ConfigError, DataError

Plan = dict[str, Any]
"""What holds for a whole image; `near`, `(H, W)` uint8, is cropped along with it."""


class PairSynthesis(Protocol):
    """A rule that makes pairs of one task."""

    task: str

    def plan(self, image: Tensor, path: Path, generator: torch.Generator) -> Plan:
        """Draw what holds for the whole `image` `(3, H, W)` uint8, read from `path`."""
        ...

    def make(self, image: Tensor, plan: Plan, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sources `a` and `b`, `(3, h, w)` uint8, from a crop of the image; `plan["near"]` is cropped alike."""
        ...


class FocusSynthesis:
    """Far- and near-focused images: what lies beyond, or before, a random depth is blurred (supplement Eq. 1 to 3).

    Pixels nearer than a threshold alpha ~ U(0, 1) form the near layer B_n. The near-focused image is sharp there and
    blurred elsewhere, the far-focused one the other way round. The paper does not publish the kernel.

    Args:
        depth: nearness of each image; None: a plane that comes closer downwards.
        kernel_size: side of the Gaussian kernel in pixels, odd.
        sigma: its standard deviation in pixels, or the range from which each plan draws it.
        area: smallest and largest share of the image that the near layer may take; alpha is drawn again until it fits.

    Raises:
        ConfigError: a value out of range.
    """

    task = "mff"

    def __init__(
        self,
        depth: DepthSource | None = None,
        kernel_size: int = 21,
        sigma: float | Sequence[float] = 5.0,
        area: Sequence[float] = (0.05, 0.95),
    ) -> None:
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size={kernel_size}: expected an odd number of at least 3 pixels.")
        low, high = (sigma, sigma) if isinstance(sigma, int | float) else sigma
        if not 0 < low <= high:
            raise ConfigError(f"sigma={sigma}: expected more than 0 pixels, or [low, high].")
        if not (len(area) == 2 and 0 <= area[0] < area[1] <= 1):
            raise ConfigError(f"area={list(area)}: expected [low, high] with 0 <= low < high <= 1.")
        self.depth = depth or DepthPlane()
        self.kernel_size, self.sigma, self.area = kernel_size, (float(low), float(high)), tuple(area)

    def plan(self, image: Tensor, path: Path, generator: torch.Generator) -> Plan:
        """The near layer, and the blur's standard deviation.

        Raises:
            DataError: no threshold divides the depth within `area`, as where it is flat.
        """
        nearness = self.depth(path, image, generator)
        near = (nearness > self._threshold(nearness, path, generator)).to(torch.uint8)
        low, high = self.sigma
        sigma = low if low == high else low + (high - low) * float(torch.rand((), generator=generator))
        return {"near": near, "sigma": sigma}

    def make(self, image: Tensor, plan: Plan, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Far focus, near focus."""
        largest = 2 * min(image.shape[-2:]) - 1  # reflection needs a picture wider than half the kernel
        kernel = min(self.kernel_size, largest)
        blurred = F.gaussian_blur(image.contiguous(), [kernel, kernel], [plan["sigma"], plan["sigma"]])
        near = plan["near"].bool()
        return torch.where(near, blurred, image), torch.where(near, image, blurred)

    def _threshold(self, nearness: Tensor, path: Path, generator: torch.Generator) -> float:
        coarse = nearness[::4, ::4]
        for _ in range(100):
            alpha = float(torch.rand((), generator=generator))
            if self.area[0] <= float((coarse > alpha).float().mean()) <= self.area[1]:
                return alpha
        low, high = self.area
        share = low + (high - low) * float(torch.rand((), generator=generator))
        alpha = float(coarse.flatten().kthvalue(min(coarse.numel(), 1 + int((1 - share) * coarse.numel()))).values)
        if not low <= float((coarse > alpha).float().mean()) <= high:
            raise DataError(
                f"{path}: no threshold of its depth gives a near layer of {low:.0%} to {high:.0%} of the image; leave "
                "the image out (exclude), widen `area`, or take another depth."
            )
        return alpha


class ExposureSynthesis:
    """Over- and under-exposed images: more or less light on the same sensor, which saturates and rounds to 8 bit.

    The paper uses the information probe of FusionBooster, a network of its own; scaling the light replaces it here.

    Args:
        stops: range of either image's distance from the photograph in powers of two, drawn for each by itself.
        noise: standard deviation of the sensor noise in linear light, which the dark image shows most.

    Raises:
        ConfigError: a value out of range.
    """

    task = "mef"

    def __init__(self, stops: Sequence[float] = (1.0, 3.0), noise: float = 0.0) -> None:
        if not (len(stops) == 2 and 0 < stops[0] <= stops[1]):
            raise ConfigError(f"stops={list(stops)}: expected [low, high] with 0 < low <= high.")
        if noise < 0:
            raise ConfigError(f"noise={noise}: expected 0 or more.")
        self.stops, self.noise = tuple(stops), noise

    def plan(self, image: Tensor, path: Path, generator: torch.Generator) -> Plan:
        """How much more and how much less light."""
        low, high = self.stops
        more, less = (low + (high - low) * torch.rand(2, generator=generator)).tolist()
        return {"stops": (more, -less)}

    def make(self, image: Tensor, plan: Plan, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Over-exposed, under-exposed."""
        light = to_linear(image.float() / 255)
        over, under = (self._expose(light * 2.0**stops, generator) for stops in plan["stops"])
        return over, under

    def _expose(self, light: Tensor, generator: torch.Generator) -> Tensor:
        if self.noise:
            light = light + self.noise * torch.randn(light.shape, generator=generator)
        return (to_display(light) * 255).round().to(torch.uint8)
