"""Depth sources: a nearness map for a photograph: measured or estimated maps, a model, or an imagined scene.

A source of depth is called with the file, its pixels and a generator, and gives nearness: `(H, W)` float32 in [0, 1],
larger where the scene is closer to the camera, stretched to the whole range for every image.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fusion.data.files.limits import open_image
from fusion.data.files.pairs import fold, list_images, natural_key
from fusion.data.synthesis import scenes
from fusion.errors import ConfigError, DataError

_ARRAY = ".npy"


class DepthSource(Protocol):
    """Nearness of an image."""

    def __call__(self, path: Path, image: Tensor, generator: torch.Generator) -> Tensor:
        """Nearness `(H, W)` in [0, 1] of `image` `(3, H, W)` uint8, which was read from `path`."""
        ...


class DepthPlane:
    """A plane that comes closer downwards, as the ground does; stands in where nothing is known of the scene.

    Args:
        tilt: largest slope of its horizon, drawn anew for every image: 0.5 lets the nearness differ by half its range
            between the left and the right edge.
    """

    def __init__(self, tilt: float = 0.0) -> None:
        if tilt < 0:
            raise ConfigError(f"tilt={tilt}: expected 0 or more.")
        self.tilt = tilt

    def __call__(self, path: Path, image: Tensor, generator: torch.Generator) -> Tensor:
        height, width = image.shape[-2:]
        plane = torch.linspace(0, 1, height)[:, None].expand(height, width)
        if self.tilt:
            slope = self.tilt * (2 * torch.rand((), generator=generator) - 1)
            plane = plane + slope * torch.linspace(-0.5, 0.5, width)[None]
        return _stretch(plane)


class ImaginedDepth:
    """The ground and one or two near objects of random outline; see `fusion.data.synthesis.scenes.procedural_depth`.

    Args:
        resolution: longer side, in pixels, at which the scene is drawn before it is enlarged.
    """

    def __init__(self, resolution: int = 256) -> None:
        if resolution < 8:
            raise ConfigError(f"resolution={resolution}: expected at least 8 pixels.")
        self.resolution = resolution

    def __call__(self, path: Path, image: Tensor, generator: torch.Generator) -> Tensor:
        height, width = image.shape[-2:]
        shrink = min(1.0, self.resolution / max(height, width))
        small = scenes.procedural_depth(max(2, round(height * shrink)), max(2, round(width * shrink)), generator)
        return _stretch(_enlarge(small, height, width))


class DepthFolder:
    """Maps in a folder, one per image and named like it: 8- or 16-bit pictures, float pictures or `.npy` arrays.

    Args:
        root: folder of the maps.
        invert: the maps grow with the distance (metric depth) instead of with the nearness (disparity).
    """

    def __init__(self, root: str | Path, invert: bool = False) -> None:
        self.root, self.invert = Path(root), invert
        self._files: dict[str, Path] | None = None

    def __call__(self, path: Path, image: Tensor, generator: torch.Generator) -> Tensor:
        if self._files is None:
            self._files = self._list()
        file = self._files.get(fold(path.stem))
        if file is None:
            raise DataError(f"{self.root}: no depth map named {path.stem} (for {path}); add it or take another depth.")
        nearness = _stretch(_enlarge(torch.from_numpy(read_depth(file)), *image.shape[-2:]))
        return 1 - nearness if self.invert else nearness

    def _list(self) -> dict[str, Path]:
        arrays = sorted(self.root.glob(f"*{_ARRAY}"), key=lambda p: natural_key(p.name)) if self.root.is_dir() else []
        files = arrays or list_images(self.root, "DEPTH/NAME.png  (one map per image, named like it)")
        return {fold(file.stem): file for file in files}


class DepthModel:
    """A monocular depth estimator from the Hugging Face hub; needs the package transformers, and the network once.

    Slow in training: let `action=prepare` write its maps to a folder once (`DepthMaps`), and train with `DepthFolder`.
    The paper of GIFNet used MegaDepth (supplement, Sec. 3.1).

    Args:
        model: repository on the hub, or a folder.
        device: where it runs, as torch names devices.
        local_files_only: do not ask the network.
    """

    def __init__(
        self,
        model: str = "depth-anything/Depth-Anything-V2-Small-hf",
        device: str = "cpu",
        local_files_only: bool = False,
    ) -> None:
        self.model, self.device, self.local_files_only = model, device, local_files_only
        self._estimator: Any = None

    def __call__(self, path: Path, image: Tensor, generator: torch.Generator) -> Tensor:
        if self._estimator is None:
            self._estimator = self._load()
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        with torch.inference_mode():
            depth = self._estimator(picture)["predicted_depth"]
        depth = torch.as_tensor(depth).float().cpu().reshape(depth.shape[-2:])
        return _stretch(_enlarge(depth, *image.shape[-2:]))

    def _load(self) -> Any:
        try:
            transformers = import_module("transformers")
        except ModuleNotFoundError as error:
            raise ConfigError(
                "depth: a model of the hub needs the package transformers (pip install 'image-fusion[text]'); or take maps "
                "from a folder (fusion.data.DepthFolder), or fusion.data.DepthPlane."
            ) from error
        try:
            options: dict[str, Any] = {"model_kwargs": {"local_files_only": True}} if self.local_files_only else {}
            return transformers.pipeline(
                "depth-estimation", model=self.model, device=self.device, trust_remote_code=False, **options
            )
        except (OSError, ValueError) as error:
            line = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"depth model {self.model}: cannot be loaded ({line}); download it once where there is a network, or "
                "name the folder that holds it."
            ) from error


def read_depth(path: Path) -> np.ndarray:
    """A map as float32 `(H, W)` in its own units; of several channels the first.

    Raises:
        DataError: unreadable, or values that are not finite.
    """
    try:
        if path.suffix == _ARRAY:
            values = np.load(path)
        else:
            with open_image(path) as file:
                values = np.asarray(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: unreadable depth map ({error}); make or copy it again.") from error
    values = np.squeeze(values)
    values = (values[..., 0] if values.ndim == 3 else values).astype(np.float32)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise DataError(f"{path}: expected a depth map (H, W) of finite numbers, got shape {values.shape}.")
    return values


def _enlarge(depth: Tensor, height: int, width: int) -> Tensor:
    if depth.shape == (height, width):
        return depth
    return F.interpolate(depth[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]


def _stretch(depth: Tensor) -> Tensor:
    """To [0, 1], as GIFNet does per image; a flat map becomes 0."""
    low, high = torch.aminmax(depth)
    return (depth - low) / (high - low).clamp(min=1e-12)
