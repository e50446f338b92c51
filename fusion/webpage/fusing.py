"""What the page computes: a pair of files to pictures, prompt maps, scores and a file of full depth. Without Gradio."""

import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.api import load_model
from fusion.data.files.ranges import scale_of
from fusion.data.files.reading import read_raster
from fusion.data.files.writing import write_raster
from fusion.data.sources import Sources, prepare
from fusion.data.transforms.grid import Geometry
from fusion.errors import DataError, FusionError
from fusion.inference.folders import fuse_sources
from fusion.inference.memory import free_memory, is_out_of_memory
from fusion.metrics import score
from fusion.metrics.registry import info
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput

SCORES = ("en", "sd", "ag", "mi", "scd", "vif", "qabf", "ssim")
"""Without a reference: of the fused picture alone (the first three), and of what it keeps of both."""
SHOWN_SIDE = 1600
"""Pixels of the longer side of what the browser shows."""
SCORED_PIXELS = 1_500_000
"""Larger pictures are shrunk for the scores, which is said."""
MAPS = 8
"""Prompt maps that are shown: the last sites."""
MATCHES = ("refuse", "a", "b")


@dataclass
class Result:
    """What the page shows of a fused pair.

    Attributes:
        a, b, fused: uint8 `(h, w, 3)`, not larger than `SHOWN_SIDE`.
        file: the result in its full depth.
        scores: by metric.
        maps: prompts, uint8 `(h, w, 3)`, with the name of their site.
        notes: what the user should know.
        color: whose colour the result has.
        seconds: that fusing took.
    """

    a: np.ndarray
    b: np.ndarray
    fused: np.ndarray
    file: Path
    scores: dict[str, float]
    maps: list[tuple[np.ndarray, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    color: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Models:
    """Models by name, loaded when they are first asked for; the latest few stay in memory.

    Args:
        device: where they are put.
        kept: how many stay.
    """

    def __init__(self, device: torch.device, kept: int = 3) -> None:
        self.device, self.kept = device, kept
        self._loaded: OrderedDict[str, FusionModel] = OrderedDict()
        self._lock = threading.Lock()  # the choice of a model and a fusion come from two threads

    def get(self, name: str) -> FusionModel:
        """A model by the name of its configuration, its run folder, or of a shared model.

        Raises:
            FusionError: as `load_model`.
        """
        with self._lock:
            if name not in self._loaded:
                run = (Path(name).expanduser() / "checkpoints").is_dir()
                model = load_model(ckpt_path=name, device=self.device) if run else load_model(name, device=self.device)
                model.refuse_untrained()
                self._loaded[name] = model
                while len(self._loaded) > self.kept:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(name)
            return self._loaded[name]


def preview(path: str | Path) -> tuple[np.ndarray, str]:
    """A file as the browser can show it, with a line on what it is.

    Raises:
        DataError: not a picture that can be read; the message names the file without its folder.
    """
    with _named([path]):
        raster = read_raster(path)
        sources = prepare([raster])
        _, said = scale_of(raster, "auto", "range")
    height, width = raster.size
    planes = {"gray": "grey", "rgb": "colour", "bands": f"{len(raster.planes)} bands"}[raster.channels]
    depth = "float" if raster.depth == "float" else f"{raster.depth} bit"
    line = f"{width} x {height} pixels, {planes}, {depth}"
    return shown(_view(sources.images[0])), " · ".join([line, *(_plain(note) for note in said)])


def fuse_files(
    model: FusionModel,
    a: str | Path,
    b: str | Path,
    folder: Path,
    task: str = "vif",
    controls: dict[str, Any] | None = None,
    color: str = "auto",
    match: str = "refuse",
) -> Result:
    """Fuse two files.

    Args:
        model: loaded.
        a, b: files.
        folder: where the result is written.
        task, controls, color: see `FusionModel.fuse`.
        match: what becomes of sources of different size: "refuse", or whose size the result has, "a" or "b".

    Raises:
        FusionError: with a message for people, which names files without their folders.
    """
    with _named([a, b]):
        geometry = Geometry(match_size=None if match == "refuse" else match)
        rasters = [read_raster(path) for path in (a, b)]
        if match == "refuse" and rasters[0].size != rasters[1].size:
            sizes = " and ".join(f"{name} is {r.size[1]} x {r.size[0]}" for name, r in zip("ab", rasters, strict=True))
            raise DataError(
                f"The pictures have different sizes: {sizes} pixels. Choose above whose size the result has."
            )
        sources = prepare(rasters, labels=("a", "b"), geometry=geometry, check_alignment=True)
        started = time.perf_counter()
        output = _fuse(model, sources, task, color, controls or {})
        seconds = time.perf_counter() - started
        raster = sources.finish(output.fused)
        simple = raster.depth in ("8", "16") and raster.channels != "bands"
        file, lost = write_raster(folder / f"{Path(a).stem[:80]}_fused{'.png' if simple else '.tif'}", raster)
    notes = [*sources.notes, *lost]
    color_used = [line.removeprefix("auto: ") for line in dict.fromkeys(output.extras.get("color", ()))]
    first, second = (_view(image) for image in sources.images)
    fused = _view(output.fused.detach().float().cpu())
    scores, said = scores_of(first, second, fused)
    return Result(
        shown(first),
        shown(second),
        shown(fused),
        file,
        scores,
        prompt_maps(output),
        [_plain(note) for note in notes] + said,
        color_used,
        seconds,
    )


def _fuse(model: FusionModel, sources: Sources, task: str, color: str, controls: dict[str, Any]) -> FusionOutput:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            output = fuse_sources(model, sources, task, color, controls)
        sources.notes += [str(warning.message) for warning in caught if warning.category is UserWarning]
        return output
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        free_memory()
        raise DataError(
            "There is not enough memory for a pair of this size: shrink it, or take another model."
        ) from error


def scores_of(a: Tensor, b: Tensor, fused: Tensor) -> tuple[dict[str, float], list[str]]:
    """Metrics of pictures `(3, H, W)` in [0, 1], with a line where they are of shrunken pictures.

    Returns:
        Values by metric, empty for pictures that are too small to be scored, and lines to show.
    """
    height, width = a.shape[-2:]
    said = []
    images = [image[None] for image in (a, b, fused)]
    if height * width > SCORED_PIXELS:
        factor = (SCORED_PIXELS / (height * width)) ** 0.5
        size = (max(1, int(height * factor)), max(1, int(width * factor)))
        images = [F.interpolate(image, size, mode="bilinear", antialias=True) for image in images]
        said.append(f"scores are of the pictures shrunk to {size[1]} x {size[0]}")
    try:
        first, second, result = (image.clamp(0, 1) for image in images)
        values = score(first, second, result, list(SCORES), dtype=torch.float32)
    except FusionError as error:
        return {}, [f"no scores: {error}"]
    return values, said


def score_rows(scores: dict[str, float]) -> list[list[str]]:
    """Rows of a table: symbol, value, which way is better."""
    arrows = {"max": "higher", "min": "lower"}
    return [[info(name).symbol, f"{value:.4f}", arrows.get(info(name).direction, "")] for name, value in scores.items()]


def prompt_maps(output: FusionOutput) -> list[tuple[np.ndarray, str]]:
    """Share of source `a` at each site, from dark (b) to bright (a), with the site's name."""
    from matplotlib import colormaps

    sites = output.sites or [str(index) for index in range(len(output.prompts))]
    maps = []
    for name, prompt in list(zip(sites, output.prompts, strict=False))[-MAPS:]:
        share = prompt[0, 0].detach().float().clamp(0, 1).cpu()
        factor = max(1, 320 // max(share.shape))
        large = F.interpolate(share[None, None], scale_factor=factor, mode="nearest")[0, 0].numpy()
        maps.append((shown_array((colormaps["viridis"](large)[..., :3] * 255).astype(np.uint8)), name))
    return maps


def shown(image: Tensor) -> np.ndarray:
    """`(3, H, W)` in [0, 1] as uint8 `(h, w, 3)` of at most `SHOWN_SIDE`."""
    factor = SHOWN_SIDE / max(image.shape[-2:])
    if factor < 1:
        size = [max(1, round(side * factor)) for side in image.shape[-2:]]
        image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def shown_array(image: np.ndarray) -> np.ndarray:
    """uint8 `(h, w, 3)` of at most `SHOWN_SIDE`."""
    return shown(torch.from_numpy(image).permute(2, 0, 1).float() / 255)


def _view(images: Tensor) -> Tensor:
    """`(N, 3|1, H, W)` as colour `(3, H, W)`: of several bands the first three, the third as red."""
    if len(images) >= 3:
        return images[:3, 0].flip(0)
    return images[0].expand(3, -1, -1)


class _named:  # noqa: N801 - reads like a word
    """Errors about files without the folders of this machine."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [Path(path) for path in paths]

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, FusionError):
            text = str(error)
            for path in self.paths:
                text = text.replace(str(path), path.name)
            raise type(error)(_plain(text)) from error


def _plain(note: str) -> str:
    """A note of the commands for people who have no command line."""
    return note.removeprefix("warning: ").removeprefix("color: ")
