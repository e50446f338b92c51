"""Size policies: images of any size in a network that takes multiples of its window."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.errors import ConfigError
from fusion.layers.borders import is_symbolic
from fusion.models.inputs import reflect_to_multiple
from fusion.models.output import FusionOutput

POLICIES = ("arbitrary", "pad", "tile448")
Run = Callable[[Tensor, Tensor], FusionOutput]


def fuse_any_size(run: Run, a: Tensor, b: Tensor, multiple: int, policy: str) -> FusionOutput:
    """Fuse a pair of any size.

    Args:
        run: the network, for sides that are multiples of `multiple`.
        a, b: `(B, 3, H, W)` in [0, 1].
        multiple: see `run`.
        policy: "arbitrary" enlarges both sides to the next multiple and takes the result back (the released code up to
            448 pixels); "pad" reflects the border instead and crops, which keeps every pixel where it was; "tile448" cuts
            larger pictures into 448x448 tiles without blending, as the released prediction does.

    Returns:
        The network's output with `fused` of the input's size.
    """
    height, width = a.shape[2:]
    symbolic = is_symbolic(height) or is_symbolic(width)
    if symbolic and policy == "tile448":
        raise ConfigError("model.size_policy=tile448: tiles need a fixed size; give size=HxW, or another policy")
    if policy == "tile448" and min(height, width) > 448:
        return _tiled(run, a, b)
    if policy == "pad":
        output = run(*(reflect_to_multiple(x, multiple) for x in (a, b)))
        output.fused = output.fused[..., :height, :width]
        return output
    size = tuple((side + multiple - 1) // multiple * multiple for side in (height, width))
    if not symbolic and size == (height, width):
        return run(a, b)
    # Sides only grow, where antialiasing changes nothing; ONNX has no operator for it.
    antialias = not torch.compiler.is_exporting()
    output = run(*(F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=antialias) for x in (a, b)))
    output.fused = F.interpolate(output.fused, (height, width), mode="bilinear", align_corners=False)
    return output


def _tiled(run: Run, a: Tensor, b: Tensor, side: int = 448) -> FusionOutput:
    """Tiles as one batch; the last row and column lie flush with the border, and later tiles overwrite earlier ones."""
    height, width = a.shape[2:]
    corners = [
        (min(top, height - side), min(left, width - side))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]

    def cut(x: Tensor) -> Tensor:
        return torch.cat([x[..., top : top + side, left : left + side] for top, left in corners])

    output = run(cut(a), cut(b))
    fused = torch.empty_like(a)
    for (top, left), tile in zip(corners, output.fused.split(len(a)), strict=True):
        fused[..., top : top + side, left : left + side] = tile
    output.fused = fused
    return output
