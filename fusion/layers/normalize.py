"""Color normalisation owned by a network, as buffers."""

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn


class ImageNetNormalize(nn.Module):
    """Maps RGB in [0, 1] to ImageNet-normalised values and back; buffers are not saved, they are constants."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_DEFAULT_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` in [0, 1] to normalised."""
        return (images - self.mean) / self.std

    def inverse(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` normalised back to [0, 1] scale, not clipped."""
        return images * self.std + self.mean
