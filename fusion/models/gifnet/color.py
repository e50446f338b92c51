"""From color pictures to the luma that is fused, and back (spec of the official test).

`exact` is the default; `official` reproduces the pixels that the released test code writes, with its rounding, its
rounded matrices and its chroma weights, which measure the distance from 128 where neutral is 0.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fusion.layers.color import join_luma, merge_chroma, split_luma

Rule = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]
"""Takes `a`, `b` `(B, 3, H, W)` in [0, 1]; gives their luma `(B, 1, H, W)` and what turns fused luma into a picture."""


def exact(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Fuse the luma; the chroma of both is merged by its distance from neutral, so that of one color picture is kept."""
    (luma_a, chroma_a), (luma_b, chroma_b) = split_luma(a), split_luma(b)
    chroma = merge_chroma(chroma_a, chroma_b)
    return luma_a, luma_b, lambda fused: join_luma(fused, chroma)


_FORWARD = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))
_INVERSE = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def official(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """The released test code to the gray level; a picture with three equal channels counts as gray there and here."""
    grays = [bool((x == x[:, :1]).all()) for x in (a, b)]
    ycc_a, ycc_b = (_apply(_FORWARD, (x.double() * 255).round()) for x in (a, b))
    lumas = [
        (x[:, :1] * 255).round() if gray else ycc[:, :1].clamp(0, 255).floor()
        for x, gray, ycc in zip((a, b), grays, (ycc_a, ycc_b), strict=True)
    ]

    def finish(fused: Tensor) -> Tensor:
        level = fused.float() * 255
        if all(grays):
            return (level.floor() / 255).expand(-1, 3, -1, -1)
        only = ycc_b if grays[0] else ycc_a
        chroma = only[:, 1:] if any(grays) else _merge_about_128(ycc_a[:, 1:], ycc_b[:, 1:])
        rgb = _apply(_INVERSE, torch.cat([level.double(), chroma.double()], 1))
        return (rgb.clamp(0, 255).round() / 255).float()

    first, second = (luma.float() / 255 for luma in lumas)
    return first, second, finish


def _apply(matrix: tuple[tuple[float, ...], ...], image: Tensor) -> Tensor:
    # NumPy's dot, as released: the weights of luma sum to one, so that the last bit decides which level a gray is cut to.
    pixels = image.movedim(1, -1).contiguous().cpu().numpy()
    return torch.from_numpy(np.dot(pixels, np.array(matrix).T)).movedim(-1, 1).to(image.device)


def _merge_about_128(a: Tensor, b: Tensor) -> Tensor:
    weight_a, weight_b = (a - 128).abs(), (b - 128).abs()
    total = weight_a + weight_b
    return torch.where(total > 0, (a * weight_a + b * weight_b) / total, 128.0).float()


RULES: dict[str, Rule] = {"exact": exact, "official": official}
