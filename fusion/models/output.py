"""What every fusion model returns."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fusion.data.files.ranges import Scale
from fusion.data.files.raster import Raster
from fusion.data.files.writing import Compression, write_raster
from fusion.data.sources import Sources
from fusion.errors import DataError
from fusion.moe.routing import Routing

EIGHT_BIT = Scale(0.0, 255.0)


@dataclass
class FusionOutput:
    """A fused image and what the method can show of its insides.

    Attributes:
        fused: `(B, 3 or 1, H, W)` in [0, 1].
        prompts: one `(B, 2, h, w)` map in (0, 1) per adapter site, channel 0 weighs source `a`, channel 1 source `b`.
        routings: one routing per adapter site.
        sites: names of the sites ("encoder.1", "decoder.5", ...), in the order of `prompts` and `routings`.
        extras: anything else a method wants to show or its losses need, by name.
        sources: what the result takes over from the files it was made of, where it was made of files or arrays.
    """

    fused: Tensor
    prompts: list[Tensor] = field(default_factory=list)
    routings: list[Routing] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
    sources: Sources | None = None

    def save(
        self, path: str | Path, depth: str = "keep", quality: int = 95, chroma: str = "444", index: int = 0
    ) -> Path:
        """Write a fused image, with the depth and the metadata of the files it was made of.

        Args:
            path: the ending chooses the format, see docs/formats.md.
            depth: "keep" the deeper source's (8 bit for tensors), "8", "16", "32" or "float".
            quality: of JPEG, WebP and AVIF, 1 to 100.
            chroma: "444", "422" or "420", of JPEG and AVIF.
            index: which image of a batch.

        Returns:
            The file. A warning says what its format could not keep.

        Raises:
            ConfigError: an ending that cannot be written, or an unknown depth or chroma.
            DataError: a folder that cannot be written, or no such image in the batch.
        """
        compression = Compression(quality, chroma)
        sources = self.sources
        if sources is None:
            if not 0 <= index < len(self.fused):
                raise DataError(f"index={index}: the batch has {len(self.fused)} images, counted from 0")
            image = self.fused[index].detach().float().cpu()
            sources = Sources(
                [image[None]], [Raster(np.zeros((len(image), 1, 1), np.uint8), "rgb", (0.0, 255.0))], [EIGHT_BIT]
            )
            raster = sources.finish(image[None], depth)
        else:
            raster = sources.finish(self.fused, depth)
        written, lost = write_raster(path, raster, compression)
        for line in lost:
            warnings.warn(line, stacklevel=2)
        return written
