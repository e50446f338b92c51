"""What every fusion model returns."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fusion.moe.routing import Routing


@dataclass
class FusionOutput:
    """A fused image and what the method can show of its insides.

    Attributes:
        fused: `(B, 3 or 1, H, W)` in [0, 1].
        prompts: one `(B, 2, h, w)` map in (0, 1) per adapter site, channel 0 weighs source `a`, channel 1 source `b`.
        routings: one routing per adapter site.
        sites: names of the sites ("encoder.1", "decoder.5", ...), in the order of `prompts` and `routings`.
        extras: anything else a method wants to show or its losses need, by name.
    """

    fused: Tensor
    prompts: list[Tensor] = field(default_factory=list)
    routings: list[Routing] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
