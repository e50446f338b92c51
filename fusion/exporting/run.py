"""The command: build a model, trace and write it, and compare the file with the model."""

import json
import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import Tensor

from fusion.api import build_model, check_controls, model_of_job
from fusion.errors import ConfigError, FusionError
from fusion.exporting.formats import FORMATS, Format, check_onnx
from fusion.exporting.graph import LARGEST, FusionGraph, Size, least_side, trace
from fusion.inference.controls import check_effect
from fusion.job.config import first_line, plain
from fusion.models.checkpoint import state_digest
from fusion.models.color import check_color
from fusion.version import __version__

SMALLEST = 16
"""Sides in pixels of a file with a fixed size."""


class NotEqual(FusionError):
    """The file computes something else than the model."""

    status = 1


def export(cfg: DictConfig) -> dict[str, Any]:
    """Write the file that `conf/export.yaml` describes.

    Returns:
        Its metadata, with `path` and `largest_difference`.

    Raises:
        NotEqual: the file differs from the model by more than `tolerance`; it is not kept.
        FusionError: nothing could be written.
    """
    size, batch = read_size(cfg.size), None if cfg.batch == "dynamic" else int(cfg.batch)
    check_color(cfg.color)
    name = model_name(cfg)
    path, form = target(cfg, name)
    if form == "onnx":
        check_onnx()
    controls = {key: value for key, value in (plain(cfg.control) or {}).items() if value is not None}
    model = build_model(model_of_job(cfg), cfg.ckpt_path)
    check_controls(model, controls)
    model.untrained = model.untrained and not cfg.allow_untrained
    model.refuse_untrained()
    check_effect(model, cfg.task, controls)
    graph = FusionGraph(model, cfg.task, cfg.color, controls)
    made = FORMATS[form](trace(graph, size, batch), cfg.opset)
    sizes = [size, size] if size else _two_sizes(least_side(model))
    largest = difference(made, graph, sizes, batch or 2)
    tried = " and ".join(dict.fromkeys(f"{height}x{width}" for height, width in sizes))
    if not largest <= float(cfg.tolerance):
        raise NotEqual(
            f"{path}: not written, it differs from the model by {largest:.2g} at {tried}, more than tolerance={cfg.tolerance}; "
            "try another format, opset or a fixed size"
        )
    about = {
        "model": model.run_name or name,
        "class": type(model).__name__,
        "task": cfg.task,
        "color": cfg.color,
        "controls": json.dumps(controls),
        "inputs": "a, b: float32 (batch, 3, height, width), RGB in [0, 1]",
        "output": f"fused: float32 (batch, {1 if cfg.color == 'luma' else 3}, height, width), in [0, 1]",
        "size": f"{size[0]}x{size[1]}" if size else f"dynamic, sides from {least_side(model)} to {LARGEST}",
        "batch": str(batch or "dynamic"),
        "version": __version__,
        "torch": torch.__version__,
        "weights_sha256": state_digest(model.state_dict(), model.state_dict().keys()),
        "largest_difference": f"{largest:.3g} at {tried}",
    }
    made.write(path, about)
    print(f"{path}: {form}, {path.stat().st_size / 1e6:.1f} MB, size {about['size']}, batch {about['batch']}")
    print(f"largest difference from the model: {largest:.2g} at {tried} (accepted: {cfg.tolerance:g})")
    return about | {"path": str(path), "largest_difference": largest}


def read_size(given: Any) -> Size | None:
    """`dynamic`, `HxW` or `[H,W]`; None means dynamic.

    Raises:
        ConfigError: something else, or a side out of range.
    """
    given = plain(given)
    if given == "dynamic":
        return None
    parts = given if isinstance(given, list) else re.split(r"[x×]", str(given))
    if len(parts) != 2 or not all(str(part).isdecimal() for part in parts):
        raise ConfigError(f"size={given}: expected dynamic, or height and width in pixels such as 480x640 or [480,640]")
    height, width = (int(part) for part in parts)
    if not all(SMALLEST <= side <= LARGEST for side in (height, width)):
        raise ConfigError(f"size={given}: expected sides from {SMALLEST} to {LARGEST} pixels")
    return height, width


def model_name(cfg: DictConfig) -> str:
    """What the user calls the model: the configuration, or the name of the checkpoint's folder."""
    if cfg.ckpt_path is not None:
        return Path(str(cfg.ckpt_path)).expanduser().resolve().stem
    return str(HydraConfig.get().runtime.choices.get("model")) if HydraConfig.initialized() else "model"


def target(cfg: DictConfig, name: str) -> tuple[Path, str]:
    """The file and its format, which have to agree.

    Raises:
        ConfigError: an ending that is of no format, or of another.
    """
    form = cfg.format
    if cfg.out is None:
        form = form or "onnx"
        return Path(f"{name}_{cfg.task}.{form}"), form
    path = Path(str(cfg.out)).expanduser()
    ending = path.suffix.lower().lstrip(".")
    if path.is_dir():
        raise ConfigError(f"out={cfg.out}: a folder; name a file, such as {path / name}_{cfg.task}.{form or 'onnx'}")
    if ending not in FORMATS or (form is not None and ending != form):
        expected = f".{form}" if form else " or ".join(f".{known}" for known in FORMATS)
        raise ConfigError(f"out={cfg.out}: expected a name that ends in {expected}")
    return path, ending


def difference(made: Format, graph: FusionGraph, sizes: list[Size], batch: int) -> float:
    """Largest difference between a file and `FusionModel.fuse`, over pairs in colour and grey, either way round.

    Raises:
        NotEqual: the file does not run at one of the sizes.
    """
    found = []
    for index, (height, width) in enumerate(sizes):
        color, gray = made_up_pair(height, width, batch, seed=index)
        for a, b in ((color, gray), (gray, color)):
            expected = graph.model.fuse(a, b, graph.task, color=graph.color, **graph.controls).fused
            try:
                found.append((made.run(a, b) - expected).abs().max())
            except Exception as error:  # of the runtime: a shape that was taken for a constant
                raise NotEqual(
                    f"the traced {type(graph.model).__name__} does not run at {height}x{width} ({first_line(error):.200}): "
                    "nothing was written; give a fixed size, size=HxW"
                ) from error
    return float(torch.stack(found).max())


def made_up_pair(height: int, width: int, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """A picture in colour and a grey one, `(B, 3, H, W)` in [0, 1]: smooth shapes with some noise, a corner of each saturated."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2 * batch, 3, 6, 8, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    images = (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)
    images[:batch, :, : height // 3, : width // 3] = 1
    images[batch:, :, -(height // 3) :, -(width // 3) :] = 0
    return images[:batch], images[batch:, :1].expand(-1, 3, -1, -1).contiguous()


def _two_sizes(least: int) -> list[Size]:
    """Two sizes, neither of them the one that was traced, with sides of every rest."""
    return [(least, least + 34), (2 * least + 3, least + 89)]
