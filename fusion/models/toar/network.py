"""The base fusion network (BFN): two encoders and the fusion and reconstruction block (Sec. 3.2); 69,881 parameters."""

import warnings
from collections.abc import Callable

from torch import Tensor, nn

from fusion.errors import ConfigError
from fusion.models.gathered import Gathered
from fusion.models.toar.blocks import Concatenation, GradientFusion, Reconstruction
from fusion.models.toar.conv_residual import ConvResidualBlock, conv_bn

FUSIONS = {"gradient": GradientFusion, "concat": Concatenation}
Regulate = Callable[[str, int, Tensor], Tensor]
"""Source ("infrared" or "visible"), index of the block whose output it is, features; gives the regulated features."""


class BaseFusionNetwork(nn.Module):
    """Fuses one infrared and one luma image.

    Args:
        blocks: residual blocks per encoder and in the decoder, M (Sec. 4.2).
        channels: width of each encoder (released code).
        fusion: "gradient" (FF) or "concat" (Model I of Table 4).

    Raises:
        ConfigError: impossible values.
    """

    def __init__(self, blocks: int = 4, channels: int = 8, fusion: str = "gradient") -> None:
        super().__init__()
        self.check_config({"blocks": blocks, "channels": channels, "fusion": fusion})
        self.infrared, self.visible = Encoder(channels, blocks), Encoder(channels, blocks)
        self.fusion = FUSIONS[fusion](2 * channels)
        self.reconstruction = Reconstruction(2 * channels, blocks)
        self.blocks = blocks

    @staticmethod
    def check_config(config: dict[str, int | str]) -> None:
        """Refuse impossible values, before anything is built."""
        if int(config.get("blocks", 4)) < 1:
            raise ConfigError(f"model.network.blocks={config['blocks']}: expected at least 1")
        if int(config.get("channels", 8)) < 2 or int(config.get("channels", 8)) % 2:
            raise ConfigError(f"model.network.channels={config['channels']}: expected an even number")
        if config.get("fusion", "gradient") not in FUSIONS:
            raise ConfigError(f"model.network.fusion={config['fusion']} is not one of {', '.join(FUSIONS)}")

    @property
    def margin(self) -> int:
        """Pixels beyond a tile's edge that what lies within can see, T-OAR's sites included."""
        encoder = 2 + 4 * self.blocks + 4 * (self.blocks - 1)  # stem; two dilated convolutions a block; a site of four
        return encoder + 4 + 4 * self.blocks + 3  # gradient, pooling and two convolutions; decoder; its last three

    def forward(
        self, infrared: Tensor, visible: Tensor, regulate: Regulate | None = None, gathered: Gathered | None = None
    ) -> Tensor:
        """Fused luma `(B, 1, H, W)` in [0, 1], of an infrared image and the visible one's luma, both the same.

        Args:
            infrared, visible: `(B, 1, H, W)` in [0, 1], any size of 2 pixels and more.
            regulate: changes the features after every block but the last.
            gathered: numbers of the whole pictures, where these are tiles.
        """
        features_infrared = self.infrared(infrared, "infrared", regulate)
        features_visible = self.visible(visible, "visible", regulate)
        return self.reconstruction(self.fusion(features_infrared, features_visible, gathered))


def is_trained(network: BaseFusionNetwork) -> bool:
    """Whether the network has other weights than it began with: its last batch norm has seen pictures."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return bool(norms[-1].running_mean.any())  # type: ignore[union-attr]


def warn_untrained(network: BaseFusionNetwork) -> None:
    """Say so where the weights are random still."""
    if not is_trained(network):
        warnings.warn(
            "the base network of T-OAR is not trained, so its pictures mean nothing: train experiment=toar_stage1, or give "
            "weights",
            stacklevel=2,
        )


class Encoder(nn.Module):
    """IR-E or VI-E: a stem of two convolutions and M residual blocks.

    Args:
        channels: width of the features.
        blocks: M.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(1, channels // 2), conv_bn(channels // 2, channels))
        self.blocks = nn.ModuleList(ConvResidualBlock(channels, channels) for _ in range(blocks))

    def forward(self, image: Tensor, source: str, regulate: Regulate | None = None) -> Tensor:
        """`(B, 1, H, W)` to `(B, C, H, W)`."""
        features = self.stem(image)
        for index, block in enumerate(self.blocks):
            features = block(features)
            if regulate is not None and index < len(self.blocks) - 1:
                features = regulate(source, index, features)
        return features
