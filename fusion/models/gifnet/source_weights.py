"""Source weights from the gradient energy of image features (Xu et al. 2020)."""

import urllib.error
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.errors import WeightsError
from fusion.parts import Part

_LAPLACIAN = ((0.125, 0.125, 0.125), (0.125, -1.0, 0.125), (0.125, 0.125, 0.125))


def gradient_energy(features: Tensor) -> Tensor:
    """Mean squared Laplacian of the sum over channels, reflected at the border; `(B, C, H, W)` to a scalar.

    The released GIFNet code applies one kernel to all pairs of channels, so that each output channel is this sum.
    """
    kernel = features.new_tensor(_LAPLACIAN)[None, None]
    summed = features.sum(1, keepdim=True)
    pad = "reflect" if min(summed.shape[-2:]) > 1 else "replicate"  # a single pixel has nothing to reflect
    return F.conv2d(F.pad(summed, (1, 1, 1, 1), mode=pad), kernel).square().mean()


class SourceWeights(Protocol):
    """Weights of two sources that sum to one."""

    def __call__(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Scalars for two batches `(B, 1, H, W)` in [0, 1]."""
        ...


class FixedWeights(Part):
    """Weights that do not look at the sources.

    Args:
        first: share of the first source, in [0, 1].
    """

    def __init__(self, first: float = 0.5) -> None:
        self.first = first

    def __call__(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        share = first.new_tensor(self.first)
        return share, 1 - share


class ImageGradientWeights(Part):
    """Softmax over the gradient energies of the pictures themselves; needs no network.

    Args:
        scale: factor on the energies; pixels in [0, 1] have far smaller ones than features.
    """

    def __init__(self, scale: float = 100.0) -> None:
        self.scale = scale

    @torch.no_grad()
    def __call__(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        energies = torch.stack([gradient_energy(image) for image in (first, second)])
        return tuple((self.scale * energies).softmax(0))  # type: ignore[return-value]


class DenseNetWeights(Part):
    """Softmax over the gradient energies of ImageNet features: DenseNet-121 after its pooling and its four stages.

    The network is loaded at the first call, from torchvision's cache or by download, and is no part of checkpoints.

    Args:
        cuts: numbers of children of `features` after which maps are taken.
    """

    def __init__(self, cuts: Sequence[int] = (4, 6, 8, 10, 11)) -> None:
        self.cuts = tuple(cuts)
        self._stages: list[nn.Module] = []

    @torch.no_grad()
    def __call__(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        energies = torch.stack([self.energy(image) for image in (first, second)])
        return tuple(energies.softmax(0))  # type: ignore[return-value]

    def energy(self, images: Tensor) -> Tensor:
        """Mean over the stages of the gradient energy of `(B, 1, H, W)`, not normalised as ImageNet is; scalar."""
        features, energies = images.expand(-1, 3, -1, -1), []
        for stage in self._network(images.device):
            features = stage(features)
            energies.append(gradient_energy(features))
        return torch.stack(energies).mean()

    def _network(self, device: torch.device) -> list[nn.Module]:
        if not self._stages:
            layers = list(load_densenet().eval().requires_grad_(False).get_submodule("features").children())
            starts = (0, *self.cuts[:-1])
            self._stages = [nn.Sequential(*layers[s:e]) for s, e in zip(starts, self.cuts, strict=True)]
        return [stage.to(device) for stage in self._stages]


def load_densenet() -> nn.Module:
    """DenseNet-121 with torchvision's ImageNet weights.

    Raises:
        WeightsError: they are neither in the cache nor to be had.
    """
    from torchvision.models import DenseNet121_Weights, densenet121

    weights = DenseNet121_Weights.IMAGENET1K_V1
    try:
        return densenet121(weights=weights)
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        target = f"{torch.hub.get_dir()}/checkpoints/{weights.url.rsplit('/', 1)[-1]}"
        raise WeightsError(
            f"DenseNet-121 for the weights of the sources could not be downloaded ({error}): put {weights.url} at "
            f"{target}, or do without it by model/loss/weighting=image_gradient or fixed"
        ) from error
