"""What a file holds: the whole of `FusionModel.fuse` for one task, colour rule and steering, traced by torch.export."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fusion.errors import ConfigError, FusionError
from fusion.job.config import causes, first_line
from fusion.layers.borders import is_symbolic
from fusion.models.base import FusionModel
from fusion.models.color import fuse_in_color
from fusion.models.inputs import reflect_to_least

Size = tuple[int, int]
LARGEST = 1 << 15
"""Largest side of a file with dynamic sizes."""


class FusionGraph(nn.Module):
    """A model with its task, colour rule and steering as constants.

    Args:
        model: ready to fuse.
        task: as `FusionModel.fuse` takes it.
        color: see `fusion.models.color`.
        controls: steering of `fuse`.
    """

    def __init__(self, model: FusionModel, task: str, color: str = "auto", controls: dict[str, Any] | None = None):
        super().__init__()
        self.model, self.task, self.color, self.controls = model.eval(), task, color, dict(controls or {})

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two float32 `(B, 3, H, W)` in [0, 1] to `(B, 3, H, W)`, or `(B, 1, H, W)` for color=luma, in [0, 1]."""
        height, width = a.shape[-2:]

        def run(x: Tensor, y: Tensor) -> Any:
            if not (is_symbolic(height) or is_symbolic(width)):
                x, y = (reflect_to_least(image, self.model.least_side) for image in (x, y))
            made = self.model._fuse_tensor(x, y, self.task, **self.controls)
            made.fused = made.fused[..., :height, :width]
            return made

        return fuse_in_color(run, a, b, self.color, self.model.native_color).fused.float().clamp(0, 1)


def least_side(model: FusionModel) -> int:
    """Smallest side of a file with dynamic sizes: below it, sides of the network would be 1, which graphs treat apart."""
    return max(64, model.padded_multiple) + 1


def trace(graph: FusionGraph, size: Size | None, batch: int | None) -> ExportedProgram:
    """Trace a graph.

    Args:
        graph: what is traced.
        size: height and width in pixels; None: dynamic, from `least_side` to `LARGEST`.
        batch: pairs at once; None: dynamic.

    Raises:
        ConfigError: a model or setting that cannot be traced.
    """
    least = least_side(graph.model)
    height, width = size or (least + 37, 2 * least + 11)
    example = torch.linspace(0, 1, 3 * height * width).view(1, 3, height, width).expand(batch or 2, -1, -1, -1)
    dynamic: dict[int, Any] = {}
    if batch is None:
        dynamic[0] = Dim("batch", min=1, max=1 << 10)
    if size is None:
        dynamic |= {2: Dim("height", min=least, max=LARGEST), 3: Dim("width", min=least, max=LARGEST)}
    shapes = {"a": dynamic, "b": dynamic} if dynamic else None
    try:
        with torch.no_grad():
            return torch.export.export(
                graph,
                (example.contiguous(), example.flip(-1).contiguous()),
                dynamic_shapes=shapes,
                prefer_deferred_runtime_asserts_over_guards=True,  # sizes whose relations sympy cannot prove
            )
    except Exception as error:  # torch.export raises errors of many kinds
        for cause in causes(error):
            if isinstance(cause, FusionError):
                raise cause from None
        name = type(graph.model).__name__
        raise ConfigError(
            f"{name} cannot be traced with size={'dynamic' if size is None else f'{height}x{width}'} and "
            f"batch={batch or 'dynamic'} ({type(error).__name__}: {first_line(error):.200}); try a fixed size and batch=1"
        ) from error
