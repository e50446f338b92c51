"""SegFormer (Xie et al., NeurIPS 2021): its all-MLP head on any pyramid of timm, and the original through transformers."""

from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.errors import ConfigError, WeightsError
from fusion.layers.normalize import ImageNetNormalize


class AllMLPHead(nn.Module):
    """Features of all levels, each through a linear layer, at the size of the finest, mixed by another.

    Args:
        channels: of the levels.
        num_classes: of the logits.
        width: of the linear layers.
        dropout: before the last layer.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, width: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(channel, width, 1) for channel in channels)
        self.mix = nn.Sequential(
            nn.Conv2d(len(channels) * width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout2d(dropout),
        )
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Levels `(B, C_i, h_i, w_i)`, the finest first, to logits `(B, K, h_0, w_0)`."""
        size = features[0].shape[-2:]
        levels = [level(feature) for level, feature in zip(self.levels, features, strict=True)]
        resized = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels]
        return self.classify(self.mix(torch.cat(resized, dim=1)))


class PyramidSegmenter(nn.Module):
    """A trunk of timm with the head of SegFormer.

    Args:
        num_classes: without ignored pixels.
        trunk: name of a timm network that gives features at several strides ("pvt_v2_b2" is the nearest to mit-b2).
        pretrained: load timm's weights before training, by download.
        width, dropout: see `AllMLPHead`.

    Raises:
        ConfigError: timm does not know the trunk.
    """

    def __init__(
        self,
        num_classes: int,
        trunk: str = "pvt_v2_b0",
        pretrained: bool = False,
        width: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.trunk_name, self.pretrained = trunk, pretrained
        self.normalize = ImageNetNormalize()
        try:
            trunk_module: Any = timm.create_model(trunk, pretrained=False, features_only=True)
        except RuntimeError as error:
            raise ConfigError(f"model.network.trunk={trunk}: {str(error).splitlines()[0]}") from error
        self.trunk = trunk_module
        self.head = AllMLPHead(trunk_module.feature_info.channels(), num_classes, width, dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K, h, w)` of RGB images `(B, 3, H, W)` in [0, 1], at the trunk's finest stride."""
        return self.head(self.trunk(self.normalize(images)))

    def load_pretrained(self) -> None:
        """Load timm's weights into the trunk, if asked for.

        Raises:
            WeightsError: unavailable.
        """
        if not self.pretrained:
            return
        try:
            loaded = timm.create_model(self.trunk_name, pretrained=True, features_only=True)
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"weights of {self.trunk_name} could not be downloaded ({str(error).splitlines()[0]}): start from random "
                "ones with model.network.pretrained=false"
            ) from error
        self.trunk.load_state_dict(loaded.state_dict())


class SegFormer(nn.Module):
    """SegFormer through transformers; the defaults are mit-b2.

    Args:
        num_classes: without ignored pixels.
        depths, widths: of the four stages.
        head_width: of the all-MLP head.
        weights: what the trunk starts from: name on the hub or folder of a SegFormer (nvidia/mit-b2), or
            None for random weights; loaded by `load_pretrained`.

    Raises:
        ConfigError: transformers is not installed.
    """

    def __init__(
        self,
        num_classes: int,
        depths: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (64, 128, 320, 512),
        head_width: int = 768,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        try:
            from transformers import SegformerConfig, SegformerForSemanticSegmentation
        except ImportError as error:
            raise ConfigError(
                "SegFormer needs transformers: pip install 'image-fusion[text]', or take model/segmenter=small"
            ) from error
        self.weights = weights
        self.normalize = ImageNetNormalize()
        config = SegformerConfig(  # type: ignore[call-arg]
            num_labels=num_classes, depths=list(depths), hidden_sizes=list(widths), decoder_hidden_size=head_width
        )
        model = SegformerForSemanticSegmentation(config)
        self.trunk, self.head = model.segformer, model.decode_head

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K, H / 4, W / 4)` of RGB images `(B, 3, H, W)` in [0, 1]."""
        found = self.trunk(self.normalize(images), output_hidden_states=True)
        return self.head(found.hidden_states)

    def load_pretrained(self) -> None:
        """Load `weights` into the trunk.

        Raises:
            WeightsError: unavailable, or of another size.
        """
        if self.weights is None:
            return
        from transformers import SegformerModel

        try:
            loaded = SegformerModel.from_pretrained(self.weights)
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"weights '{self.weights}' could not be had ({str(error).splitlines()[0]}): give a folder, or start from "
                "random ones with model.network.weights=null"
            ) from error
        try:
            self.trunk.load_state_dict(loaded.state_dict())
        except RuntimeError as error:
            raise WeightsError(f"weights '{self.weights}' are of another size than model.network") from error
