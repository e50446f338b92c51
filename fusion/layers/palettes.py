"""Recognise the palettes of thermal cameras and plotting tools: a pseudo-coloured picture's colours lie on one curve."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

_IRON = (
    (0, 0, 0), (0, 0, 60), (32, 0, 140), (90, 0, 155), (140, 0, 150), (180, 15, 140), (205, 40, 110), (225, 70, 50), (235, 95, 10),
    (245, 125, 0), (252, 160, 0), (255, 195, 20), (255, 220, 70), (255, 240, 150), (255, 255, 246),
)  # fmt: skip
_RAINBOW = (
    (0, 0, 0), (0, 0, 120), (0, 0, 255), (0, 120, 255), (0, 220, 220), (0, 200, 80), (60, 220, 0), (180, 240, 0), (255, 230, 0),
    (255, 140, 0), (255, 50, 0), (230, 0, 60), (255, 120, 180), (255, 255, 255),
)  # fmt: skip
_PLOTTED = {"inferno": "inferno", "plasma": "plasma", "rainbow (jet)": "jet", "rainbow (turbo)": "turbo", "hot": "hot",
            "iron (gnuplot2)": "gnuplot2", "viridis": "viridis", "magma": "magma"}  # fmt: skip
_NEAR = 30 / 255
_SIDE = 96


@functools.cache
def palettes() -> dict[str, Tensor]:
    """Known palettes by name, `(256, 3)` in [0, 1]."""
    from matplotlib import colormaps

    found = {name: _curve(stops) for name, stops in (("iron", _IRON), ("rainbow", _RAINBOW))}
    steps = torch.linspace(0, 1, 256).numpy()
    found |= {name: torch.from_numpy(colormaps[key](steps)[:, :3]).float() for name, key in _PLOTTED.items()}
    return found


def _curve(stops: tuple[tuple[int, int, int], ...]) -> Tensor:
    points = torch.tensor(stops, dtype=torch.float32).T[None] / 255
    return F.interpolate(points, 256, mode="linear", align_corners=True)[0].T


def palette_of(image: Tensor) -> str | None:
    """Name of the palette that an image in colour was drawn with, None for true colour.

    Nearly all pixels must lie near the palette, their colours spread over a good part of it, and most of them in its colourful
    part.

    Args:
        image: `(3, H, W)` in [0, 1].
    """
    few, pixels = (_pixels(image, side) for side in (_SIDE // 4, _SIDE))
    best, best_distance = None, _NEAR
    for name, curve in palettes().items():
        if (torch.cdist(few, curve).amin(1) < _NEAR).float().mean() < 0.8:  # most photographs end here
            continue
        distances, nearest = torch.cdist(pixels, curve).min(1)
        close = distances < _NEAR
        colorful = pixels.amax(1) - pixels.amin(1) > 0.2
        used = torch.unique(nearest[close & colorful] // 16).numel()
        if close.float().mean() < 0.95 or colorful.float().mean() < 0.2 or used < 5:
            continue
        mean = float(distances.mean())
        if mean < best_distance:
            best, best_distance = name, mean
    return best


def _pixels(image: Tensor, side: int) -> Tensor:
    """Evenly spread pixels of an image, `(n, 3)` on the CPU, of at most `side` by `side`."""
    small = image.detach()[None]
    if max(small.shape[-2:]) > side:
        factor = side / max(small.shape[-2:])
        small = F.interpolate(small, [max(1, round(s * factor)) for s in small.shape[-2:]], mode="nearest-exact")
    return small[0].flatten(1).T.float().cpu()
