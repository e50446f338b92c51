"""Any network with two inputs as a `FusionModel`, so that it is evaluated, benchmarked and ranked beside the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError
from fusion.hub import load_strict, locate, read_state
from fusion.layers.color import join_luma, merge_chroma, split_luma
from fusion.models.base import FusionModel
from fusion.models.inputs import reflect_to_least, reflect_to_multiple
from fusion.models.output import FusionOutput
from fusion.models.tiled import Reach

SEES = ("rgb", "luma")
CHROMA = ("a", "b", "weighted")


class ReferenceFusion(FusionModel):
    """A frozen network with its colour handling; it is compared with, not trained.

    Args:
        network: takes two images `(B, C, H, W)` and gives one. With a `margin`, the pixels beyond a tile's edge that what lies
            within can see, large pictures go by tiles; `bytes_per_pixel` says what it takes.
        weights: path of the network's state dict (opened with `weights_only`, loaded strictly), or a name of
            `fusion.hub.REGISTRY`; None: the network as it is built.
        sees: "rgb": both images in colour, C = 3; "luma": luma of `a` and of `b`, C = 1, and chroma by `chroma`.
        chroma: for "luma": of "a", of "b", or of both, "weighted" by the distance from neutral.
        swap: give the network `b` first.
        mean, std: normalisation of its input, undone on its output; one value per channel. None: [0, 1] as it is.
        multiple: sides that the network accepts are multiples of this; images are reflected up to it and cropped back.
        stretch: spread each fused image over [0, 1], as some released test scripts do.
        source: where its weights are and their licence, for the message that refuses to fuse without them; None: the network
            needs none.
        base: see `FusionModel`.
    """

    least_side = 2  # some networks reflect their edges, which one pixel cannot be
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        weights: str | None = None,
        sees: str = "rgb",
        chroma: str = "a",
        swap: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        multiple: int = 1,
        stretch: bool = False,
        source: str | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.network = network.eval()
        self.native_color = "rgb" if sees == "rgb" else "a" if chroma == "a" else "merged"
        self._in_tiles = False
        self.sees, self.chroma, self.swap, self.stretch = sees, chroma, swap, stretch
        self.size_multiple, self.source = multiple, source
        margin = getattr(self.network, "margin", None)  # networks that do not say how far they see are not cut
        self.reach = None if margin is None else Reach(int(margin))
        self.bytes_per_pixel = float(getattr(self.network, "bytes_per_pixel", self.bytes_per_pixel))
        channels = 1 if sees == "luma" else 3
        for name, values, neutral in (("mean", mean, 0.0), ("std", std, 1.0)):
            given = [neutral] * channels if values is None else [float(value) for value in values]
            if len(given) != channels:
                raise ConfigError(f"model.{name} has {len(given)} values, expected {channels} for sees={sees}")
            self.register_buffer(name, torch.tensor(given).view(-1, 1, 1), persistent=False)
        name = type(self.network).__name__.removesuffix("Network")
        if source is not None:
            self.weights_help = (
                f"the weights of {name} are not part of this package; get them from {source} and give ckpt_path=FILE or "
                "model.weights=FILE"
            )
        else:
            self.network.requires_grad_(False)  # a network that brings what it needs
        if weights is not None:
            self.load_weights(weights)

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Refuse unknown choices, before anything is built."""
        for key, known in (("sees", SEES), ("chroma", CHROMA)):
            if key in config and config[key] not in known:
                raise ConfigError(f"model.{key}={config[key]}: expected one of {', '.join(known)}")
        if int(config.get("multiple", 1)) < 1:
            raise ConfigError(f"model.multiple={config['multiple']}: expected 1 or more")

    def load_weights(self, weights: str) -> None:
        """Load the network's state dict, strictly; counters of batch norms may be missing (PyTorch before 1.0).

        Raises:
            WeightsError: missing, damaged, holding more than tensors, or of another network.
        """
        state = read_state(locate(weights))
        for prefix in ("network.", "module."):  # a checkpoint of ours; one of DataParallel
            if state and all(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
        counters = {key for key in self.network.state_dict() if key.endswith("num_batches_tracked")}
        load_strict(self.network, state, weights, may_miss=counters)

    def forward(self, a: Tensor, b: Tensor, task: str = "vif") -> FusionOutput:  # type: ignore[override]
        """Fuse `(B, 3, H, W)` in [0, 1]; `fused` is not clipped unless it is stretched or joined with chroma."""
        if self.sees == "luma":
            (luma_a, chroma_a), (luma_b, chroma_b) = split_luma(a), split_luma(b)
            fused = self._run(luma_a, luma_b)
            chosen = {"a": chroma_a, "b": chroma_b}
            chroma = merge_chroma(chroma_a, chroma_b) if self.chroma == "weighted" else chosen[self.chroma]
            fused = join_luma(fused, chroma)
        else:
            fused = self._run(a, b)
        return FusionOutput(_stretched(fused) if self.stretch and not self._in_tiles else fused)

    def _fuse_tiles(self, a: Tensor, b: Tensor, task: str, pixels: int, **controls: Any) -> FusionOutput:
        self._in_tiles = True
        try:
            output = super()._fuse_tiles(a, b, task, pixels, **controls)
        finally:
            self._in_tiles = False
        output.fused = _stretched(output.fused) if self.stretch else output.fused
        return output

    @property
    def fuses_all(self) -> bool:  # type: ignore[override]
        """Whether the network takes any number of images (`any_number`)."""
        return bool(getattr(self.network, "any_number", False)) and not self.stretch

    def fuse_all(self, images: Sequence[Tensor], task: str = "vif", **controls: Any) -> FusionOutput:
        """Fuse any number of `(B, 3, H, W)` at once; for "luma" grey, colour is for who calls it."""
        size = images[0].shape[-2:]
        images = [reflect_to_multiple(reflect_to_least(x, self.least_side), self.size_multiple) for x in images]
        if self.sees == "luma":
            images = [split_luma(image)[0] for image in images]
        fused = self.network(*((image - self.mean) / self.std for image in images)) * self.std + self.mean
        return FusionOutput(fused[..., : size[0], : size[1]].expand(-1, 3, -1, -1))

    def losses(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """There are none.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("a reference network is compared with, not trained: take evaluate, predict or benchmark")

    def _run(self, a: Tensor, b: Tensor) -> Tensor:
        first, second = ((image - self.mean) / self.std for image in ((b, a) if self.swap else (a, b)))
        return self.network(first, second) * self.std + self.mean


def _stretched(fused: Tensor) -> Tensor:
    """Each image spread over [0, 1]."""
    fused = fused.clamp(0, 1)
    low, high = fused.amin((1, 2, 3), keepdim=True), fused.amax((1, 2, 3), keepdim=True)
    return torch.where(high > low, (fused - low) / (high - low).clamp_min(1e-12), fused)
