"""From one photograph to many sources: a focus stack by depth, an exposure bracket by more and less light."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.data.synthesis.scenes import RADII, to_display, to_linear, variable_blur
from fusion.errors import ConfigError


def focus_stack(image: Tensor, nearness: Tensor, count: int, blur: float = 2.0) -> list[Tensor]:
    """Frames focused from far to near; every pixel is sharp in one of them at least.

    Light is blurred by discs whose radius grows with the distance from the focal plane, beyond the depth of field: half the
    distance of two planes.

    Args:
        image: all in focus, `(3, H, W)` in [0, 1].
        nearness: `(H, W)` in [0, 1].
        count: number of frames.
        blur: growth of the radius in units of the largest disc (`scenes.RADII`) over the whole depth.

    Raises:
        ConfigError: fewer than two frames.
    """
    if count < 2:
        raise ConfigError(f"count={count}: a focus stack has two frames or more")
    light, frames = to_linear(image), []
    for index in range(count):
        away = (nearness - index / (count - 1)).abs() - 0.5 / (count - 1)
        radius = (blur * max(RADII) * away.clamp_min(0)).clamp(max=max(RADII))
        frames.append(torch.where(radius > 0, to_display(variable_blur(light, radius)), image))
    return frames


def exposure_bracket(image: Tensor, stops: Sequence[float] = (-4, -2, 0, 2, 4)) -> list[Tensor]:
    """Exposures of a scene, each so many powers of two from the photograph: saturated, and rounded to 8 bits.

    Args:
        image: `(3, H, W)` in [0, 1].
        stops: distance of each exposure.
    """
    light = to_linear(image)
    return [(to_display(light * 2.0**stop).clamp(0, 1) * 255).round() / 255 for stop in stops]
