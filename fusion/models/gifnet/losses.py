"""GIFNet's objective: one for the task without ground truth, one for tasks with it, and reconstruction for both.

The supplement names the public loss only (Eq. 4); the rest follows the released training code.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.models.gifnet.ms_ssim import ms_ssim, ssim_valid
from fusion.models.gifnet.source_weights import DenseNetWeights, SourceWeights

SIMILARITIES = ("ms_ssim", "ssim")


class GIFNetLoss(nn.Module):
    """Terms by name.

    Args:
        weighting: weights of infrared and visible image in the visible-infrared task; None: DenseNet-121.
        fusion: weight of the terms on the fused picture.
        public: weight of the reconstruction, shared by all tasks; 0 leaves it out.
        similarity: "ms_ssim" as the code has it, or "ssim" with one 11x11 window, as the supplement writes.
        data_range: range of values in the similarity; None guesses as the code does, from the reconstruction, which
            lies in (-1, 1) while its target lies in [0, 1].
        repeat_last: quirk of the code's MS-SSIM, see `fusion.models.gifnet.ms_ssim`.
    """

    def __init__(
        self,
        weighting: SourceWeights | None = None,
        fusion: float = 1.0,
        public: float = 1.0,
        similarity: str = "ms_ssim",
        data_range: float | None = None,
        repeat_last: bool = True,
    ) -> None:
        super().__init__()
        if similarity not in SIMILARITIES:
            raise ConfigError(f"model.loss.similarity={similarity}: expected one of {', '.join(SIMILARITIES)}")
        self.weighting = weighting or DenseNetWeights()
        self.fusion, self.public = fusion, public
        self.similarity, self.data_range, self.repeat_last = similarity, data_range, repeat_last

    def forward(
        self, fused: Tensor, reconstruction: Tensor, infrared: Tensor | None, target: Tensor
    ) -> dict[str, Tensor]:
        """Weighted terms.

        Args:
            fused: `(B, 1, H, W)` in (0, 1).
            reconstruction: `(B, 1, H, W)` in (-1, 1).
            infrared: the other source of the task without ground truth; None in tasks with it.
            target: visible image, or ground truth; `(B, 1, H, W)` in [0, 1].
        """
        terms: dict[str, Tensor] = {}
        if infrared is None:
            terms["fused_mse"] = self.fusion * F.mse_loss(fused, target)
        else:
            of_infrared, of_visible = self.weighting(infrared, target)
            terms["infrared_mse"] = self.fusion * of_infrared * F.mse_loss(fused, infrared)
            terms["visible_mse"] = self.fusion * of_visible * F.mse_loss(fused, target)
        if self.public:
            terms["reconstruction_ssim"] = self.public * (1 - self._similar(reconstruction, target))
            terms["reconstruction_mse"] = self.public * F.mse_loss(reconstruction, target)
        return terms

    def _similar(self, x: Tensor, y: Tensor) -> Tensor:
        if self.similarity == "ssim":
            return ssim_valid(x, y, self.data_range)[0]
        return ms_ssim(x, y, self.data_range, self.repeat_last)
