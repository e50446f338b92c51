"""`FusionModel`: the base of every method. Fusing images of any size, and their metrics, are here once."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError, DataError, WeightsError
from fusion.models.color import NativeColor, check_color, fuse_in_color
from fusion.models.inputs import Image, describe_arrays, image_pair, read_sources, reflect_to_least, reflect_to_multiple
from fusion.models.many import fuse_many
from fusion.models.memory import memory_limit, pixels_at_once
from fusion.models.output import FusionOutput
from fusion.models.scores import ScoreTable
from fusion.models.tiled import Reach, run_tiled, side_of, tiles_of
from fusion.models.trained import TrainedModel


class FusionModel(TrainedModel, ABC):
    """Two images of one scene -> one.

    Subclasses implement `forward` and `losses`, set `size_multiple`, and may override `_fuse_tensor` (another size
    policy) and what `TrainedModel` names.

    Args:
        optimizer, scheduler: see `TrainedModel`.
        eval_metrics: names of the fusion metrics that validation and testing compute per image.
        eval_convention: metric convention they follow.

    Attributes:
        eval_controls: steering that validation, test and prediction pass to `_fuse_tensor`.
        eval_references: also score against the ground truth of pairs that have one.
        eval_color: colour rule of validation, test and prediction, see `fuse`; None: the method's own alone.
        max_memory: what fusing one pair may take, see `fuse`; validation, test and prediction follow it too.
    """

    size_multiple: int = 1
    """Sides that `forward` accepts are multiples of this; `fuse` reflects images up to it and crops back."""
    native_color: NativeColor = "rgb"
    """Where the method's colour comes from by itself, see `fusion.models.color`."""
    weights_help: str = "train it with python -m fusion.train and give ckpt_path=RUN_FOLDER"
    """Where trained weights come from, for the message that refuses to fuse without them."""
    starts_classic: bool = False
    """Whether it is a classic method before the first step, so that its pictures mean something without trained weights."""
    untrained: bool = False
    """Set by `load_model` where no weights were loaded: `fuse` then refuses, because a random network makes no picture."""
    explained_controls: tuple[str, ...] = ()
    """Controls that may change nothing, because the model then says why."""
    fuses_all: bool = False
    """Whether the method has a rule of its own for more than two sources, `fuse_all`."""
    least_side: int = 1
    """Smaller pictures are extended by reflection and cropped back."""
    example_size: tuple[int, int] = (64, 64)
    """A small `(H, W)` that `forward` accepts, for checks and benchmarks."""
    bytes_per_pixel: float = 1000.0
    """Most memory that the network takes per pixel of a pair, in float32 on a CPU (experiments/benchmarks/memory.py)."""
    reach: Reach | None = None
    """How far the network looks, if tiles with such a margin agree with the whole; None: it is not cut by this base."""
    image_controls: tuple[str, ...] = ()
    """Controls that are given by image, as boxes are."""

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., Any] | None = None,
        eval_metrics: Sequence[str] = ("qabf", "ssim"),
        eval_convention: str = "exact",
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.eval_metrics = tuple(eval_metrics)
        self.eval_convention = eval_convention
        self.eval_controls: dict[str, Any] = {}
        self.eval_references = False
        self.max_memory: int | float | str = "auto"
        self.eval_color: str | None = None
        self._scores = ScoreTable()

    @property
    def padded_multiple(self) -> int:
        """What `fuse` extends both sides to a multiple of, before the network sees them."""
        return self.size_multiple

    # What a method brings ------------------------------------------------------------------------------------------

    @abstractmethod
    def forward(self, a: Tensor, b: Tensor, task: str, **controls: Any) -> FusionOutput:
        """Fuse two `(B, 3, H, W)` batches in [0, 1]; sides are multiples of `size_multiple`."""

    def losses(self, output: FusionOutput, batch: FusionBatch) -> dict[str, Tensor]:
        """Weighted loss terms by name; training minimises their sum.

        Raises:
            ConfigError: a method without an objective.
        """
        raise ConfigError(f"{type(self).__name__} has no training objective: evaluate it instead")

    def batch_controls(self, batch: FusionBatch) -> dict[str, Any]:
        """Controls of `forward` that come with a batch (boxes, instructions), in training and evaluation."""
        return {}

    # Use -------------------------------------------------------------------------------------------------------------

    def fuse(
        self,
        a: Image | Sequence[Image],
        b: Image | None = None,
        task: str = "vif",
        *,
        color: str = "auto",
        range: Any = "auto",
        many: str = "auto",
        max_memory: int | float | str | None = None,
        **controls: Any,
    ) -> FusionOutput:
        """Fuse images of any size, in evaluation mode and without gradients.

        >>> import numpy as np
        >>> from fusion import load_model
        >>> visible = np.full((48, 64, 3), (30, 120, 60), np.uint8)
        >>> infrared = np.full((48, 64), 200, np.uint8)
        >>> output = load_model("maximum").fuse(visible, infrared)
        >>> output.fused.shape, [round(255 * value) for value in output.fused[0, :, 0, 0].tolist()]
        (torch.Size([1, 3, 48, 64]), [200, 200, 200])
        >>> load_model("average").fuse(visible, infrared[:40])
        Traceback (most recent call last):
        fusion.errors.DataError: a is 48x64 and b is 40x64 (height x width): register and resize them to one size

        Args:
            a: first source (visible, over-exposed, far focus): a path, a Pillow image, a tensor `(3|1, H, W)` or
                `(B, 3|1, H, W)`, float in [0, 1] or uint8, or an array HxW or HxWx3.
                A list `[a, b, c, ...]` of them, in place of a and b, is a scene of any number of sources.
            b: second source (infrared, under-exposed, near focus), the same size.
            task: "vif", "mef" or "mff", or what the method knows.
            color: "auto", "rgb", "ycbcr", "luma", "a" or "b", see `fusion.models.color`.
            range: black and white of files and Pillow images, one for both or by source (`{"b": "minmax"}`), see
                `fusion.data.files.ranges`. Tensors and arrays are taken as they are.
            many: how more than two sources are fused: "auto", "own", "tree", "pairs" or "fold", see `fusion.models.many`.
            max_memory: what may be taken: "auto" (half of what is free on the device), a share of that such as 0.5, or a size
                such as "4GiB"; larger pictures go by tiles. None: the model's own.
            **controls: steering of the method.

        Returns:
            Output whose `fused` is `(B, 3 or 1, H, W)` in [0, 1], on the model's device. For files, Pillow images and arrays
            `output.save(path)` writes it with their depth and metadata.

        Raises:
            DataError: shapes, sizes, types or ranges that cannot be fused.
            WeightsError: the model has no trained weights.
            ConfigError: an unknown `color`, `range` or `max_memory`.
        """
        if isinstance(a, list | tuple):
            if b is not None:
                raise DataError("fuse takes all sources in one list, fuse([a, b, c], task=...), or two: fuse(a, b)")
            return fuse_many(self, a, task, many, color, range, max_memory, **controls)
        if b is None:
            raise DataError("fuse needs two sources, fuse(a, b), or a list of them: fuse([a, b, c], task=...)")
        a = cast(Image, a)
        self.refuse_untrained()
        check_color(color)
        limit = memory_limit(self.max_memory if max_memory is None else max_memory, self.device)
        sources = read_sources(a, b, range)
        first, second = (a, b) if sources is None else (image.to(self.device) for image in sources.images)
        first, second = image_pair(first, second, self.device)
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.inference_mode():

                def run(x: Tensor, y: Tensor) -> FusionOutput:
                    height, width = x.shape[-2:]
                    x, y = (reflect_to_least(image, self.least_side) for image in (x, y))
                    made = self._fuse_within(x, y, task, limit, **controls)
                    made.fused = made.fused[..., :height, :width]
                    return made

                output = fuse_in_color(run, first, second, color, self.native_color)
                output.fused = output.fused.float().clamp(0, 1)
                output.sources = sources if sources is not None else describe_arrays(a, b)
                return output
        finally:
            for module, training in modes:
                module.training = training

    def fuse_all(self, images: Sequence[Tensor], task: str, **controls: Any) -> FusionOutput:
        """Fuse any number of `(1, 3, H, W)` sources of any size at once, the brightest first, where `fuses_all`.

        `controls` has a `limit` too, bytes that may be taken, for methods that can keep to it.

        Raises:
            ConfigError: a method without such a rule.
        """
        raise ConfigError(f"{type(self).__name__} has no rule for more than two sources")

    def refuse_untrained(self) -> None:
        """Refuse to make pictures with random weights.

        Raises:
            WeightsError: says where weights come from.
        """
        if self.untrained:
            raise WeightsError(
                f"{type(self).__name__} has no trained weights and would make no picture: {self.weights_help}; "
                "or set allow_untrained=true to see what an untrained network makes"
            )

    def _fuse_within(self, a: Tensor, b: Tensor, task: str, limit: int, **controls: Any) -> FusionOutput:
        """`_fuse_tensor` where memory allows, else pair by pair, and a pair by tiles.

        Args:
            a, b: `(B, 3, H, W)` in [0, 1].
            task: see `fuse`.
            limit: bytes for one pair.
            **controls: steering of the method.
        """
        pixels = a.shape[-2] * a.shape[-1]
        fits = pixels_at_once(limit, self.bytes_per_pixel, pixels, a.device)
        if len(a) * pixels <= fits or (len(a) == 1 and not self._by_tiles()):
            return self._fuse_tensor(a, b, task, **controls)
        if len(a) == 1:
            return self._fuse_tiles(a, b, task, fits, **controls)
        made = [
            self._fuse_within(a[i : i + 1], b[i : i + 1], task, limit, **self._of_image(controls, i))
            for i in range(len(a))
        ]
        return FusionOutput(torch.cat([one.fused for one in made]))

    def _of_image(self, controls: dict[str, Any], index: int) -> dict[str, Any]:
        """Controls of one image of a batch."""
        return {
            key: value[index : index + 1]
            if key in self.image_controls and isinstance(value, list | tuple | Tensor)
            else value
            for key, value in controls.items()
        }

    def _by_tiles(self) -> bool:
        """Whether `_fuse_tiles` knows how; a method that overrides that says so here."""
        return self.reach is not None

    def _fuse_tiles(self, a: Tensor, b: Tensor, task: str, pixels: int, **controls: Any) -> FusionOutput:
        """Fuse one pair by tiles of about so many pixels; prompts and routings are those of the last tile."""
        assert self.reach is not None
        height, width = a.shape[-2:]
        a, b = (reflect_to_multiple(image, self.size_multiple) for image in (a, b))
        reach = Reach(self.reach.margin, math.lcm(self.reach.grid, self.size_multiple))
        last: list[FusionOutput] = []

        def run(x: Tensor, y: Tensor) -> Tensor:
            last[:] = [self(x, y, task, **controls)]
            return last[0].fused.float()

        fused = run_tiled(run, a, b, tiles_of(a, side_of(pixels, reach), reach))
        return FusionOutput(fused[..., :height, :width], last[0].prompts, last[0].routings, last[0].sites)

    def _fuse_tensor(self, a: Tensor, b: Tensor, task: str, **controls: Any) -> FusionOutput:
        height, width = a.shape[-2:]
        a, b = (reflect_to_multiple(image, self.size_multiple) for image in (a, b))
        output = self(a, b, task, **controls)
        output.fused = output.fused[..., :height, :width]
        return output

    # Steps -----------------------------------------------------------------------------------------------------------

    def training_terms(self, batch: FusionBatch) -> dict[str, Tensor]:
        """Terms of `losses` for what the network makes of a batch."""
        return self.losses(self(batch["a"], batch["b"], batch["task"], **self.batch_controls(batch)), batch)

    def _evaluate(self, batch: FusionBatch) -> FusionOutput:
        controls = self.batch_controls(batch) | self.eval_controls
        output = self._fuse_batch(batch, controls)
        values: dict[str, Tensor] = {}
        if self.eval_metrics:
            from fusion.metrics import compute

            values = compute(batch["a"], batch["b"], output.fused, list(self.eval_metrics), self.eval_convention)
        if self.eval_references and "reference" in batch:
            from fusion.metrics.full_reference import full_reference

            values = values | full_reference(output.fused, batch["reference"])
        self._scores.add(batch, values)
        return output

    def _finish_evaluation(self, stage: str) -> None:
        self.last_rows = self._scores.gather()
        means = self._scores.means(self.last_rows)
        self._scores.clear()
        # Every rank holds all rows and so the same means.
        self.log_dict({f"{stage}/{name}": value for name, value in means.items()}, batch_size=1)

    def predict_step(self, batch: FusionBatch, batch_idx: int) -> FusionOutput:
        controls = self.batch_controls(batch) | self.eval_controls
        return self._fuse_batch(batch, controls)

    def _fuse_batch(self, batch: FusionBatch, controls: dict[str, Any]) -> FusionOutput:
        """Fuse within `max_memory` and under `eval_color`."""
        limit = memory_limit(self.max_memory, self.device)

        def run(x: Tensor, y: Tensor) -> FusionOutput:
            return self._fuse_within(x, y, batch["task"], limit, **controls)

        if self.eval_color is None:
            output = run(batch["a"], batch["b"])
        else:
            output = fuse_in_color(run, batch["a"], batch["b"], self.eval_color, self.native_color)
        output.fused = output.fused.float().clamp(0, 1)
        return output
