"""From one photograph to the two images of a fusion task: defocus by depth, two exposures, a thermal look-alike.

Everything works on float `(C, H, W)` tensors in [0, 1] (display values unless said otherwise) and draws from the
generator it is given, so that a seed decides the result.
"""

import torch
import torch.nn.functional as F
from kornia.filters import bilateral_blur
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur, resize

RADII = (0.0, 1.5, 3.0, 4.5, 6.0)
"""Radii in pixels of the blur discs between which `defocus` interpolates."""


def to_linear(image: Tensor) -> Tensor:
    """Display values to light intensity (IEC 61966-2-1)."""
    return torch.where(image <= 0.04045, image / 12.92, ((image.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def to_display(light: Tensor) -> Tensor:
    """Light intensity to display values (IEC 61966-2-1), clipped to [0, 1]."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def smooth_field(height: int, width: int, generator: torch.Generator, cells: int = 3) -> Tensor:
    """Random field `(H, W)` in [0, 1] that varies over about 1/`cells` of the image."""
    coarse = torch.rand(1, 1, cells, cells, generator=generator)
    field = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)[0, 0]
    return (field - field.min()) / (field.max() - field.min())


def procedural_depth(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Nearness `(H, W)` in [0, 1] of an imagined scene: ground that comes closer downwards, one or two near objects."""
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    x = torch.linspace(0, 1, width)[None].expand(height, width)
    draw = torch.rand(9, generator=generator).tolist()
    tilt = 0.35 * (draw[0] - 0.5)  # the ground's edge need not be level
    nearness = ((y + tilt * (x - 0.5) - (0.3 + 0.3 * draw[1])) / 0.7).clamp(0, 0.48)
    for i in range(1 + (draw[2] > 0.5)):
        cx, cy = 0.2 + 0.6 * draw[3 + i], 0.45 + 0.3 * draw[5 + i]
        rx, ry = 0.14 + 0.14 * draw[7], 0.28 + 0.2 * draw[8]
        wobble = 0.35 * (smooth_field(height, width, generator, cells=5) - 0.5)
        inside = ((x - cx) / rx).abs() ** 2.5 + ((y - cy) / ry).abs() ** 2.5 + wobble < 1
        nearness = torch.where(inside, torch.full_like(nearness, 0.75 + 0.2 * draw[3 + i]), nearness)
    return nearness


def defocus(image: Tensor, nearness: Tensor) -> tuple[Tensor, Tensor]:
    """A far-focused and a near-focused image of a scene with known depth.

    Light is blurred by discs that grow with the distance from the focal plane, which lies between the layers: what is
    sharp in one image is blurred in the other. Blurred near objects spread over the sharp background, as lenses do.

    Args:
        image: all-in-focus `(C, H, W)`.
        nearness: `(H, W)` in [0, 1]; 0.5 and above is the near layer.

    Returns:
        far focus, near focus.
    """
    light = to_linear(image)
    near = (nearness >= 0.5).to(light)
    radius = 2 * max(RADII) * (nearness - 0.5).abs()
    # Each layer is blurred by itself and normalised, so that no color leaks in from the other one.
    background = variable_blur(light * (1 - near), radius) / variable_blur((1 - near)[None], radius).clamp(min=1e-3)
    far_radius = torch.full_like(radius, float(radius[near > 0].mean()) if bool(near.any()) else 0.0)
    coverage = variable_blur(near[None], far_radius)
    foreground = variable_blur(light * near, far_radius) / coverage.clamp(min=1e-3)
    far_focus = torch.lerp(light, foreground, coverage)
    near_focus = torch.where(near > 0, light, background)
    return to_display(far_focus), to_display(near_focus)


def expose(image: Tensor, generator: torch.Generator, stops: float = 2.5) -> tuple[Tensor, Tensor]:
    """An over- and an under-exposed image of a scene whose light varies too much for one exposure.

    The photograph gets an uneven illumination; the camera adds shot and read noise, saturates and applies its response.

    Args:
        image: `(C, H, W)`.
        generator: source of illumination and noise.
        stops: exposure difference of either image from the middle, in powers of two.

    Returns:
        over-exposed, under-exposed.
    """
    illumination = 2.0 ** (3.6 * (smooth_field(image.shape[-2], image.shape[-1], generator) - 0.5))
    light = to_linear(image) * illumination
    middle = 0.18 / float(light.mean().clamp(min=1e-3))
    over, under = (
        _camera(light * middle * 2.0**ev, generator, photons=photons) for ev, photons in ((stops, 4e3), (-stops, 1e3))
    )
    return over, under


def night(image: Tensor, generator: torch.Generator) -> Tensor:
    """The scene at night: lit in places only, elsewhere dark and noisy."""
    lamps = smooth_field(image.shape[-2], image.shape[-1], generator) ** 1.5
    return _camera(to_linear(image) * (0.02 + 0.75 * lamps), generator, photons=700.0)


def thermal(image: Tensor, generator: torch.Generator) -> Tensor:
    """What a heat camera might see of the scene: warmth by color rather than by brightness, people, little texture.

    Warmth is a random mix of the smoothed colors in which brightness counts negatively, so that dark things tend to be
    warm. Up to three people are added that the visible image does not show.

    Returns:
        `(1, H, W)`.
    """
    height, width = image.shape[-2:]
    flat = bilateral_blur(image[None], (9, 9), 0.12, (3.0, 3.0))[0]
    mix = torch.tensor([0.9, -0.9, -0.6]) + 0.5 * torch.randn(3, generator=generator)
    heat = (mix[:, None, None] * (flat - flat.mean(0))).sum(0, keepdim=True) - 0.45 * flat.mean(0)
    heat = (heat - heat.mean()) / heat.std().clamp(min=1e-3)
    heat = 0.34 + 0.13 * heat + 0.15 * (smooth_field(height, width, generator) - 0.5)
    heat = _add_people(heat.clamp(0.02, 0.75), generator)
    columns = 0.006 * torch.randn(1, 1, width, generator=generator)  # fixed pattern of the detector
    noise = 0.012 * torch.randn(1, height, width, generator=generator)
    return (gaussian_blur(heat, [5, 5], [0.9, 0.9]) + columns + noise).clamp(0, 1)


def _camera(light: Tensor, generator: torch.Generator, photons: float) -> Tensor:
    noise = torch.randn(light.shape, generator=generator) * (light.clamp(0, 1) / photons + 4e-7).sqrt()
    return to_display(light + noise)


def variable_blur(image: Tensor, radius: Tensor) -> Tensor:
    """Disc blur of `(C, H, W)` whose radius, in pixels, is given per pixel `(H, W)`."""
    levels = torch.stack([image] + [_disc_blur(image, r) for r in RADII[1:]])
    place = (radius / RADII[1]).clamp(0, len(RADII) - 1 - 1e-4)
    low = place.long()
    index = low.expand(1, *image.shape)
    return torch.lerp(levels.gather(0, index)[0], levels.gather(0, index + 1)[0], (place - low).to(image))


def _disc_blur(image: Tensor, radius: float) -> Tensor:
    half = int(radius + 1)
    axis = torch.arange(-half, half + 1, dtype=image.dtype)
    disc = (radius + 0.5 - (axis[:, None] ** 2 + axis[None] ** 2).sqrt()).clamp(0, 1)
    padded = F.pad(image[:, None], (half,) * 4, mode="reflect")
    return F.conv2d(padded, (disc / disc.sum())[None, None])[:, 0]


def _add_people(heat: Tensor, generator: torch.Generator) -> Tensor:
    """Up to three upright figures, warmest at the head, in `(1, H, W)`."""
    height, width = heat.shape[-2:]
    y = torch.arange(height)[:, None].float()
    x = torch.arange(width)[None].float()
    for _ in range(int(torch.randint(4, (), generator=generator))):
        u, v, s, t, w = torch.rand(5, generator=generator).tolist()
        tall = (0.18 + 0.2 * s) * height
        left, top = (0.06 + 0.88 * u) * width, (0.25 + 0.4 * v) * height
        stride = 0.04 + 0.06 * w
        # x and y of the centre, both radii, warmth: head, trunk, two legs; in body lengths
        parts = [(0, 0.08, 0.06, 0.08, 1.0), (0, 0.35, 0.12, 0.22, 0.9)]
        parts += [(-stride, 0.74, 0.055, 0.27, 0.8), (stride, 0.74, 0.055, 0.27, 0.8)]
        figure = torch.zeros(height, width)
        for dx, dy, rx, ry, warmth in parts:
            distance = ((x - left - dx * tall) / (rx * tall)) ** 2 + ((y - top - dy * tall) / (ry * tall)) ** 2
            figure = torch.maximum(figure, warmth * (3 * (1.15 - distance)).clamp(0, 1))
        figure = gaussian_blur(figure[None], [5, 5], [1.2, 1.2])
        heat = torch.lerp(heat, torch.full_like(heat, 0.75 + 0.2 * t), figure)
    return heat


def crop_and_resize(image: Tensor, box: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """Cut `box` (top, left, height, width) out of `(C, H, W)` and resize it to `size`, antialiased."""
    top, left, height, width = box
    return resize(image[:, top : top + height, left : left + width], list(size), antialias=True).clamp(0, 1)
