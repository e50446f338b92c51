"""Results of an evaluation at the depth of their files, as `fusion.predict` writes them; scores are of 8 bit, as in papers."""

import contextlib
from pathlib import Path
from typing import Any

from PIL import Image

from fusion.data.dataset import PairDataset
from fusion.data.files.pairs import Pair
from fusion.data.files.reading import read_raster
from fusion.data.files.writing import write_raster
from fusion.data.sources import prepare
from fusion.data.transforms.grid import Geometry
from fusion.errors import DataError
from fusion.inference.targets import Job, deeper
from fusion.models.base import FusionModel

_EIGHT_BIT = ("JPEG", "MPO", "GIF", "BMP", "WEBP")


class DeepResults:
    """Fuses pairs of files deeper than 8 bit once more, at their depth, and writes them.

    Data sets decode to 8 bit, which is what is scored. Pairs that are not read from two files as they are, because a data set makes
    them or evaluation resizes them, keep their 8 bit.

    Args:
        datasets: what is evaluated.
        color: see `FusionModel.fuse`.
        depth: of the results, see `fusion.data.sources.Sources.finish`.
    """

    def __init__(self, datasets: list[PairDataset], color: str = "auto", depth: str = "keep") -> None:
        self.datasets, self.color, self.depth = datasets, color, str(depth)
        self._known: dict[tuple[str, str], tuple[PairDataset, Pair]] | None = None

    def write(self, model: FusionModel, batch: Any, index: int, size: tuple[int, int], target: Path) -> bool:
        """Write one result.

        Args:
            model: what fuses.
            batch: what it fused.
            index: which of it.
            size: height and width of the result that was scored.
            target: where to; its ending gives way to one that holds the depth.

        Returns:
            Whether it was written; else it is for the caller.
        """
        found = self._find(batch["dataset"][index], batch["name"][index]) if "dataset" in batch else None
        if found is None or self.depth == "8":
            return False
        dataset, pair = found
        if self.depth == "keep" and all(is_eight_bit(path) for path in (pair.a, pair.b)):
            return False
        try:
            rasters = [read_raster(path) for path in (pair.a, pair.b)]
            sources = prepare(rasters, geometry=Geometry(match_size=dataset.match_size, fit=dataset.fit))
        except DataError:
            return False
        if sources.by_band or sources.rasters[0].size != size or (self.depth == "keep" and sources.depth == "8"):
            return False
        a, b = (image.to(model.device) for image in sources.images)
        controls = {k: v for k, v in (model.batch_controls(batch) | model.eval_controls).items() if v is not None}
        output = model.fuse(a, b, batch["task"], color=self.color, **model._of_image(controls, index))
        raster = sources.finish(output.fused, self.depth)
        write_raster(deeper(Job(pair, target, fixed=False), raster), raster)
        return True

    def _find(self, dataset: str, name: str) -> tuple[PairDataset, Pair] | None:
        if self._known is None:
            plain = [one for one in self.datasets if type(one)._read is PairDataset._read and one.resize is None]
            self._known = {(one.name, pair.name): (one, pair) for one in plain for pair in one.pairs}
        return self._known.get((dataset, name))


def is_eight_bit(path: Path) -> bool:
    """Whether a file holds 8 bit, by its header; formats that Pillow does not know count as deeper."""
    with contextlib.suppress(Exception), Image.open(path) as image:
        return image.format in _EIGHT_BIT or (image.format in ("TIFF", "PNG") and _bits(image) == 8)
    return False


def _bits(image: Image.Image) -> int:
    """Bits per sample of a TIFF or PNG, which Pillow may open as 8 bit where they hold more."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
        return 8 if max(bits) <= 8 else 16
    raw = str(getattr(image, "tile", ""))
    return 16 if "16" in raw or image.mode.startswith(("I", "F")) else 8
