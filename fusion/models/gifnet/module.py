"""GIFNet as a LightningModule."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError, DataError
from fusion.hub import load_strict, locate, read_state
from fusion.layers.color import split_luma
from fusion.models.base import FusionModel
from fusion.models.gifnet.color import RULES
from fusion.models.gifnet.convert import convert_official, is_official
from fusion.models.gifnet.gates import ScalarGate
from fusion.models.gifnet.inference import FastGIFNet
from fusion.models.gifnet.losses import GIFNetLoss
from fusion.models.gifnet.network import BRANCHES, INTERACTIONS, GIFNetNetwork
from fusion.models.gifnet.pansharpening import restore_radiometry
from fusion.models.gifnet.tiles import fuse_luma, reach
from fusion.models.inputs import reflect_to_multiple
from fusion.models.memory import pixels_at_once
from fusion.models.output import FusionOutput
from fusion.models.tiled import Reach, side_of

MAIN_BRANCH = {"vif": "mm", "mef": "dp", "mff": "dp", "medical": "mm", "nir": "mm", "pansharpening": "mm"}
"""Branch that a task trains. Using the model, `main_task` decides, whatever the task."""
SMALLEST = 5
"""Sides in pixels that the reflected borders of the second block's windows need."""
PRECISIONS = ("float32", "bfloat16")


class GIFNet(FusionModel):
    """One model for all low-level fusion tasks (Cheng et al., CVPR 2025).

    Args:
        gate: makes the gate between the branches from the number of channels, see gates.py.
        loss: objective; None: the default of `GIFNetLoss`.
        interaction: "on", "one_way" or "off", see `GIFNetNetwork`.
        main_task: "mff" or "vif", whose branch makes the picture in use (supplement Sec. 4).
        color: "exact", or "official" for the pixels of the released test code, see color.py.
        precision: "float32" or "bfloat16" in use, statistics and output being float32 always; under autocast its type counts.
        weights: name or path of weights: the released checkpoint, or one of ours.
        zero_grad_none: False keeps gradients of zero for the branch that rests, so that Adam's momentum moves it on.
        whole_pixels: pixels fused at once; larger pictures go by tiles, which agree with the whole.
        tile: side of the tiles in pixels.
        network: further arguments of `GIFNetNetwork`.
        base: see `FusionModel`.
    """

    native_color = "merged"
    bytes_per_pixel = 1900
    weights_help = (
        "give ckpt_path=Final.model, the released checkpoint (https://github.com/AWCXV/GIFNet, folder model), or "
        "ckpt_path=RUN_FOLDER of your own training (experiment=gifnet)"
    )

    def __init__(
        self,
        gate: Callable[..., ScalarGate] = ScalarGate,
        loss: GIFNetLoss | None = None,
        interaction: str | bool = "on",
        main_task: str = "mff",
        color: str = "exact",
        precision: str = "float32",
        weights: str | None = None,
        zero_grad_none: bool = True,
        whole_pixels: int = 1_600_000,
        tile: int = 768,
        network: Mapping[str, Any] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.main_task, self.color, self.whole_pixels, self.tile = main_task, color, whole_pixels, tile
        self.zero_grad_none, self.precision = zero_grad_none, precision
        self._fits: int | None = None  # pixels for which memory suffices
        self._ready: tuple[Any, FastGIFNet] | None = None
        self.network = GIFNetNetwork(_spelled(interaction), gate, **(network or {}))
        self.loss = loss or GIFNetLoss()
        if weights is not None:
            self.load_weights(weights)

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Refuse values that do not exist."""
        known = {
            "interaction": INTERACTIONS,
            "main_task": ("mff", "vif"),
            "color": tuple(RULES),
            "precision": PRECISIONS,
        }
        for key, values in known.items():
            value = config.get(key, values[0])
            if (_spelled(value) if key == "interaction" else value) not in values:
                raise ConfigError(f"model.{key}={value} is not one of {', '.join(values)}")
        for key, least in (("whole_pixels", 1), ("tile", 64)):
            if config.get(key, least) < least:
                raise ConfigError(f"model.{key}={config[key]}: expected at least {least}")

    def load_weights(self, weights: str) -> None:
        """Load the released checkpoint, or weights of ours.

        Raises:
            WeightsError: unavailable, or of another model; the line says what is missing.
        """
        state = read_state(locate(weights))
        if is_official(state):
            self.network.load_state_dict(convert_official(state, self.network))
            return
        load_strict(self.network, {key.removeprefix("network."): value for key, value in state.items()}, weights)

    def forward(  # type: ignore[override]
        self,
        a: Tensor,
        b: Tensor,
        task: str = "vif",
        *,
        main_task: str | None = None,
        gate_scale: float = 1.0,
        auxiliary: tuple[Tensor, Tensor, str] | None = None,
    ) -> FusionOutput:
        """Fuse pairs of at least 5x5 pixels.

        Args:
            a, b: `(B, 3, H, W)` in [0, 1].
            task: "vif", "mef", "mff", "medical" (a MRI, b PET or SPECT), "nir" (a visible, b near-infrared) or
                "pansharpening" (a panchromatic, b bands, each of which is fused). a and b may be the same picture, which
                enhances it.
            main_task: "mff" or "vif", whose branch makes the picture. None: the model's choice; while training the
                task's own.
            gate_scale: factor on the gate, for analysis.
            auxiliary: `a`, `b` and task of the pair that the other branch sees, in training; None: the same pair.

        Raises:
            ConfigError: an unknown task.
        """
        own = MAIN_BRANCH[_known(task)]
        main = own if self.training and main_task is None else self._branch(main_task or self.main_task)
        other = None if auxiliary is None else _luma_pair(*auxiliary)
        pair = _luma_pair(a, b, task)
        fused, features = self.network(pair, other, main, gate_scale)
        extras = {"luma": fused, "reconstruction": self.network.reconstruct(features.shared)} if self.training else {}
        return FusionOutput(RULES["exact"](a, b)[2](fused) if not self.training else fused, extras=extras)

    def batch_controls(self, batch: FusionBatch) -> dict[str, Any]:
        """The pair of the other task that comes with a training batch."""
        if "auxiliary_a" not in batch or not self.training:
            return {}
        return {"auxiliary": (batch["auxiliary_a"], batch["auxiliary_b"], batch["auxiliary_task"])}

    def losses(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """Weighted terms of the batch's task, in float32 whatever the precision of the network.

        Raises:
            DataError: a multi-focus or multi-exposure batch without ground truth.
        """
        task = batch["task"]
        supervised = MAIN_BRANCH[_known(task)] == "dp"
        clean = batch.get("reference", None if supervised else batch["a"])
        if clean is None:
            raise DataError(
                f"training on '{task}' needs a `reference`, the picture that is sharp and well exposed everywhere: "
                "choose data=gifnet or another set that has it"
            )
        with torch.autocast(output.fused.device.type, enabled=False):
            infrared = None if supervised else split_luma(batch["b"])[0]
            fused, reconstruction = output.extras["luma"].float(), output.extras["reconstruction"].float()
            return self.loss(fused, reconstruction, infrared, split_luma(clean)[0])

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Drop the gradients, or set them to zero."""
        optimizer.zero_grad(set_to_none=self.zero_grad_none)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log both gates, the factors lambda of the supplement's Fig. 4."""
        gates = {f"gate/{name}": self.network.branch(name).gate.factor().detach().mean() for name in BRANCHES}
        self.log_dict(gates, batch_size=1)

    def feature_maps(self, a: Tensor, b: Tensor, task: str = "vif", main_task: str | None = None) -> dict[str, Tensor]:
        """Feature maps `(B, C, H, W)` on the way to the picture, by part (supplement Fig. 5), of pairs as `forward` takes.

        The branch that makes the picture is shown at its end, the other one where it enters, if it does.
        """
        main = self._branch(main_task or self.main_task)
        with torch.inference_mode():
            made = self.network(_luma_pair(a, b, task), main=main)[1]
        other = BRANCHES[1 - BRANCHES.index(main)]
        parts = {"shared encoder": made.shared, f"{other} branch": made.auxiliary, f"{main} branch": made.main}
        return {name: part for name, part in parts.items() if part is not None}

    def pansharpen(self, bands: Tensor, pan: Tensor, main_task: str | None = None, restore: bool = True) -> Tensor:
        """Fuse every band of a multispectral picture with a panchromatic one.

        Args:
            bands: `(B, C, H, W)` in [0, 1], any number of bands, enlarged to the size of `pan`.
            pan: `(B, 1, H, W)` in [0, 1].
            main_task: see `forward`.
            restore: give every band its histogram back, see pansharpening.py.

        Returns:
            `(B, C, H, W)` in [0, 1].
        """
        if bands.shape[-2:] != pan.shape[-2:]:
            raise DataError(
                f"bands are {bands.shape[-2]}x{bands.shape[-1]}, the panchromatic image {pan.shape[-2]}x{pan.shape[-1]}: "
                "enlarge the bands to its size first"
            )
        with torch.inference_mode():
            pairs = torch.stack([bands.flatten(0, 1), pan.expand_as(bands).flatten(0, 1)], 1)
            fused = self._fuse_luma(pairs, main_task, 1.0).view_as(bands)
            return restore_radiometry(fused, bands) if restore else fused

    def _fuse_within(self, a: Tensor, b: Tensor, task: str, limit: int, **controls: Any) -> FusionOutput:
        self._fits = pixels_at_once(limit, self.bytes_per_pixel, a.shape[-2] * a.shape[-1], a.device)
        try:
            return self._fuse_tensor(a, b, task, **controls)
        finally:
            self._fits = None

    def _fuse_tensor(  # type: ignore[override]
        self, a: Tensor, b: Tensor, task: str, main_task: str | None = None, gate_scale: float = 1.0
    ) -> FusionOutput:
        """The picture of `forward`, by the faster way of inference.py, at any size and with the rule `color`."""
        if torch.compiler.is_exporting():  # inference.py works in place, strip by strip
            self._refuse_export(task)
            return self(a, b, task, main_task=main_task, gate_scale=gate_scale)
        if len(a) > 1 and (self.color == "official" or task == "pansharpening"):  # grey or not is decided by picture
            made = [
                self._fuse_tensor(x, y, task, main_task, gate_scale).fused
                for x, y in zip(a.split(1), b.split(1), strict=True)
            ]
            return FusionOutput(torch.cat(made))
        height, width = a.shape[-2:]
        if _known(task) == "pansharpening":
            bands = b[:, :1] if bool((b == b[:, :1]).all()) else b
            return FusionOutput(self.pansharpen(bands, split_luma(a)[0], main_task).expand(-1, 3, -1, -1))
        luma_a, luma_b, finish = RULES[self.color](a, b)
        pair = torch.cat([luma_a, luma_b] if task == "mef" else [luma_b, luma_a], 1)
        return FusionOutput(finish(self._fuse_luma(pair, main_task, gate_scale)[..., :height, :width]))

    def _refuse_export(self, task: str) -> None:
        """Refuse what only NumPy or the pixels themselves decide.

        Raises:
            ConfigError: names the key.
        """
        if task == "pansharpening":
            raise ConfigError("task=pansharpening: GIFNet gives every band its histogram back, which no graph does")
        if self.color != "exact":
            raise ConfigError(
                f"model.color={self.color}: rounds with NumPy, which no graph does; take model.color=exact"
            )

    def _fuse_luma(self, pair: Tensor, main_task: str | None, gate_scale: float) -> Tensor:
        height, width = pair.shape[-2:]
        if min(height, width) < SMALLEST:
            pair = reflect_to_multiple(pair, 2 * SMALLEST)
        device = pair.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else getattr(torch, self.precision)
        main = self._branch(main_task or self.main_task)
        with torch.autocast(device, enabled=False):
            network = self._prepared(main, gate_scale, dtype)
            whole, tile = self.whole_pixels, self.tile
            if self._fits is not None:
                grid = math.lcm(network.window, 4)
                whole = min(whole, self._fits)
                tile = max(min(tile, side_of(self._fits, Reach(reach(network.window), grid))), 64)
            return fuse_luma(network, pair, whole, tile)[..., :height, :width]

    def _prepared(self, main: str, gate_scale: float, dtype: torch.dtype) -> FastGIFNet:
        """The network made ready, for a GPU once per weights: that takes a hundred launches.

        Weights that change in place are seen by their version, and what hides from it (averages that are swapped in for evaluation)
        by the change from training to evaluation that goes with it.
        """
        if self.device.type == "cpu":
            return FastGIFNet(self.network, main, gate_scale, dtype)
        state = tuple((parameter.data_ptr(), parameter._version) for parameter in self.network.parameters())
        key = (main, gate_scale, dtype, state)
        if self._ready is None or self._ready[0] != key:
            self._ready = key, FastGIFNet(self.network, main, gate_scale, dtype)
        return self._ready[1]

    def train(self, mode: bool = True) -> Self:
        """See `torch.nn.Module.train`; forgets what was made ready for the other mode."""
        if mode != self.training:
            self._ready = None
        return super().train(mode)

    def _branch(self, main_task: str) -> str:
        if main_task not in ("mff", "vif"):
            raise ConfigError(f"main_task={main_task}: expected mff or vif")
        return MAIN_BRANCH[main_task]


def _known(task: str) -> str:
    if task not in MAIN_BRANCH:
        raise ConfigError(f"task '{task}' is not one of {', '.join(MAIN_BRANCH)}")
    return task


def _luma_pair(a: Tensor, b: Tensor, task: str) -> Tensor:
    """Luma `(B, 2, H, W)` in the order that the weights know: infrared, near focus or over-exposed first."""
    first, second = (a, b) if _known(task) == "mef" else (b, a)
    return torch.cat([split_luma(first)[0], split_luma(second)[0]], 1)


def _spelled(interaction: Any) -> Any:
    """YAML reads a bare on or off as a truth value."""
    return {True: "on", False: "off"}.get(interaction, interaction)
