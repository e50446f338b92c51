"""Mean and deviation of a picture that is seen piece by piece."""

import torch
from torch import Tensor


class Moments:
    """Mean and sum of squared deviations per sample, gathered over pieces (Chan et al. 1979), so that nothing cancels.

    Args:
        batch: samples.
        device: where the pieces are.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(batch, dtype=torch.float64, device=device)
        self.squares = torch.zeros(batch, dtype=torch.float64, device=device)

    def add(self, piece: Tensor) -> None:
        """Count `(B, h, w, C)` values in; an empty piece changes nothing."""
        count = piece[0].numel()
        if not count:
            return
        piece = piece.float()
        # Channels in float32, pixels in float64: long sums of equal numbers, as in black borders, drift in float32.
        mean = piece.sum(-1).double().sum((1, 2)) / count
        squares = (piece - mean.to(piece).view(-1, 1, 1, 1)).square_().sum(-1).double().sum((1, 2))
        difference, total = mean - self.mean, self.count + count
        self.squares += squares + difference**2 * (self.count * count / total)
        self.mean += difference * (count / total)
        self.count = total

    def mean_std(self, eps: float) -> tuple[Tensor, Tensor]:
        """Mean and root of variance plus `eps`, each `(B,)` float32."""
        return self.mean.float(), (self.squares / self.count + eps).sqrt().float()
