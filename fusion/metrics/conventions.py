"""Metric conventions: toolboxes publish different numbers under one name.

The same metric name stands for different numbers in different toolboxes: another logarithm, a sum instead of a mean, a
color image scored per channel or as luma, 8-bit saturation. A `Convention` names one such house; each metric states in
the registry which function it uses there.
"""

from dataclasses import dataclass
from typing import Literal

from fusion.errors import ConfigError

Color = Literal["luma", "channels", "columns", "first", "real_luma"]
"""How a color image becomes the planes that a metric sees.

`luma`: one plane, Matlab's `rgb2gray` weights. `channels`: the metric on each channel, then the mean of the three.
`columns`: the channels side by side as one H x 3W plane (VIFB's spatial frequency). `first`: the red channel alone.
`real_luma`: `luma` that conventions of 8 bits do not round.
"""


@dataclass(frozen=True)
class Convention:
    """A house of metrics.

    Attributes:
        name: what users write.
        color: the color policy of its metrics, unless a metric states its own.
        quantise: whether images are rounded to 8 bits first (toolboxes read image files); luma is then rounded as well.
        note: one line for tables and messages.
        gray: the color policy for a color fused image whose two sources are gray, if another one.
    """

    name: str
    color: Color
    quantise: bool
    note: str
    gray: Color | None = None


CONVENTIONS: dict[str, Convention] = {
    c.name: c
    for c in (
        Convention("exact", "luma", False, "clean definitions on unrounded luma; histograms of 256 gray levels"),
        Convention("vifb", "channels", True, "VIFB toolbox (Zhang et al. 2020), 8 bit, mean over the RGB channels"),
        Convention(
            "mefb",
            "channels",
            True,
            "MEFB toolbox (Zhang 2021), 8 bit, mean over the RGB channels; red alone where both sources are gray",
            gray="first",
        ),
        Convention("liu", "luma", True, "imageFusionMetrics (Liu et al. 2012), 8-bit luma"),
        Convention("tang", "luma", True, "General Evaluation Metric (Tang), the code as it is today, 8-bit luma"),
        Convention(
            "tang_legacy", "luma", True, "what Tang's published tables hold: saturating bytes in SD, VIF and MI"
        ),
    )
}


def get_convention(name: str) -> Convention:
    """Looks a convention up.

    Raises:
        ConfigError: for an unknown name; the message lists the known ones.
    """
    if name not in CONVENTIONS:
        raise ConfigError(f"convention '{name}' is not known; choose one of: {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]
