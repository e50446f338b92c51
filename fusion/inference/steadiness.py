"""Temporal steadiness of a fused video: how much it changes from frame to frame without its sources doing so."""

import torch
from torch import Tensor

from fusion.layers.color import split_luma

MOST = 500_000
"""Pixels of a frame that are looked at; larger frames are thinned out."""


class Steadiness:
    """Running means over a video, frame by frame in constant memory.

    With D the absolute difference of the lumas of a frame and the one before, at a pixel,

        flicker = mean of max(0, D_fused - max(D_a, D_b))
        change = mean of D_fused,   average = mean of D_((a + b) / 2)

    over all pixels and frames, in grey levels of 255. Flicker is the change that neither source shows: 0 for the average of
    the sources and for every weighting that stays the same over time; weights that jump, as a choice of sources does that
    is undecided, raise it, and so do gains above 1. Measured before encoding. Moving objects count as far as the fused
    picture shows them more strongly than either source.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._last: list[Tensor] | None = None

    def add(self, a: Tensor, b: Tensor, fused: Tensor) -> None:
        """Add the next frame.

        Args:
            a, b: sources `(1, 3, H, W)` in [0, 1], as they are fused.
            fused: `(1, 3 or 1, H, W)`.
        """
        step = max(1, round((a.shape[-2] * a.shape[-1] / MOST) ** 0.5))
        lumas = [self._luma(x[..., ::step, ::step]) for x in (a, b, fused)]
        lumas.append((lumas[0] + lumas[1]) / 2)
        if self._last is not None:
            change = [(now - before).abs() for now, before in zip(lumas, self._last, strict=True)]
            flicker = (change[2] - torch.maximum(change[0], change[1])).clamp_min(0)
            means = [flicker.mean(), change[2].mean(), change[3].mean()]
            self._sums += 255 * torch.stack(means).double().cpu()
            self.frames += 1
        self._last = lumas

    @staticmethod
    def _luma(image: Tensor) -> Tensor:
        image = image.float().cpu()
        return split_luma(image)[0] if image.shape[1] == 3 else image

    @property
    def flicker(self) -> float:
        """Change that neither source shows, in grey levels per frame."""
        return self._mean(0)

    @property
    def change(self) -> float:
        """Change of the fused video."""
        return self._mean(1)

    @property
    def average(self) -> float:
        """Change of the average of the sources."""
        return self._mean(2)

    def _mean(self, index: int) -> float:
        return float(self._sums[index]) / max(self.frames, 1)

    def line(self) -> str:
        """All of it in one line."""
        if self.frames == 0:
            return "steadiness: one frame, nothing to compare"
        return (
            f"steadiness: flicker {self.flicker:.3f} grey levels per frame (change that neither source shows; 0 for their "
            f"average), change {self.change:.2f} (average of the sources {self.average:.2f})"
        )
