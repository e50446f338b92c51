"""Stage one of T-OAR: the base fusion network as a LightningModule (Sec. 3.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError, WeightsError
from fusion.hub import load_strict, locate, read_state
from fusion.models.base import FusionModel
from fusion.models.gathered import Gathered
from fusion.models.inputs import Image
from fusion.models.output import FusionOutput
from fusion.models.toar import color
from fusion.models.toar.losses import BrightnessGradientLoss
from fusion.models.toar.network import BaseFusionNetwork, warn_untrained
from fusion.models.toar.tiles import fuse_tiles


class BaseFusion(FusionModel):
    """Fuses luma and infrared; the chroma is the visible image's.

    Args:
        network: arguments of `BaseFusionNetwork`.
        loss: Eqs. 3-5.
        weights: name or path of weights; None leaves them random.
        base: see `FusionModel`.
    """

    native_color = "a"
    bytes_per_pixel = 1500
    least_side = 2  # its edges are reflected, which one pixel cannot be
    weights_help = (
        "leave model.weights=toar_base, which comes trained, or give ckpt_path=RUN_FOLDER of experiment=toar_stage1"
    )

    def __init__(
        self,
        network: Mapping[str, Any] | None = None,
        loss: BrightnessGradientLoss | None = None,
        weights: str | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.network = BaseFusionNetwork(**(network or {}))
        self.loss = loss or BrightnessGradientLoss()
        if weights is not None:
            self.load_weights(weights)

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Refuse impossible networks, before anything is built."""
        check_network(config.get("network") or {})

    def load_weights(self, weights: str) -> None:
        """Load the base network of a checkpoint of either stage.

        Raises:
            WeightsError: unavailable, or of another network.
        """
        load_base(self.network, weights)

    def forward(  # type: ignore[override]
        self, a: Tensor, b: Tensor, task: str = "vif"
    ) -> FusionOutput:
        """Fuse visible `a` with infrared `b`, `(B, 3, H, W)` in [0, 1], any size; `fused` is not clipped."""
        return self._fuse_piece(a, b)

    def _fuse_piece(self, a: Tensor, b: Tensor, gathered: Gathered | None = None) -> FusionOutput:
        luma, chroma = color.split(a)
        infrared = b[:, :1]  # the first channel of an RGB file, as in the released code
        fused = self.network(infrared, luma, gathered=gathered)
        return FusionOutput(color.join(fused, chroma.to(fused.dtype)), extras={"luma": fused})

    def _by_tiles(self) -> bool:
        return True

    def _fuse_tiles(self, a: Tensor, b: Tensor, task: str, pixels: int, **controls: Any) -> FusionOutput:
        def fuse(x: Tensor, y: Tensor, gathered: Gathered) -> Tensor:
            return self._fuse_piece(x, y, gathered).fused

        return FusionOutput(fuse_tiles(fuse, a, b, self.network.margin, pixels))

    def fuse(
        self, a: Image | Sequence[Image], b: Image | None = None, task: str = "vif", **controls: Any
    ) -> FusionOutput:
        """See `FusionModel.fuse`; warns where there are no trained weights."""
        warn_untrained(self.network)
        return super().fuse(a, b, task, **controls)

    def losses(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """Eqs. 3 and 4, weighted as in Eq. 5."""
        return self.loss(output.extras["luma"], batch["b"][:, :1], color.split(batch["a"])[0])


def check_network(config: Mapping[str, Any]) -> None:
    """Refuse keys and values that `BaseFusionNetwork` does not take.

    Raises:
        ConfigError: names the key.
    """
    known = ("blocks", "channels", "fusion")
    if unknown := [key for key in config if key not in known]:
        raise ConfigError(f"unknown key 'model.network.{unknown[0]}'; known: {', '.join(known)}")
    BaseFusionNetwork.check_config(dict(config))


def load_base(network: BaseFusionNetwork, weights: str) -> None:
    """Load the base network out of a checkpoint of either stage.

    Raises:
        WeightsError: unavailable, or of another network.
    """
    state = read_state(locate(weights))
    prefix = "network."
    state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not state:
        raise WeightsError(f"weights '{weights}' hold no base fusion network: expected keys that start with '{prefix}'")
    counters = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    load_strict(network, state, weights, may_miss=counters)
