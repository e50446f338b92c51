"""Every metric by name: what it measures, where it is defined, and its function in each convention."""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from fusion.errors import ConfigError
from fusion.metrics.conventions import CONVENTIONS, Color, get_convention
from fusion.metrics.triple import Triple

PlaneFunction = Callable[[Triple], Tensor]


@dataclass(frozen=True)
class Variant:
    """A metric as one convention computes it: the function on planes, and the planes it wants.

    Attributes:
        function: planes to values `(N,)`.
        color: the color policy.
        quantise: whether images are rounded to 8 bits first.
        gray: the color policy for a color fused image whose two sources are gray, if another one.
        double: whether the function needs float64 planes, whatever type the values shall have.
    """

    function: PlaneFunction
    color: Color
    quantise: bool
    gray: Color | None = None
    double: bool = False


@dataclass(frozen=True)
class MetricInfo:
    """What a table or a user needs to know about a metric.

    Attributes:
        name: what users write, `qabf`.
        symbol: what tables print, `Q_ABF`.
        title: the long name.
        direction: `max` if higher is better, `min` if lower is.
        bounds: range of the `exact` variant; `None` where there is no bound.
        decimals: digits that papers print.
        differentiable: whether gradients of the `exact` variant reach the images.
        source: paper and equation, or toolbox.
        double: whether the `exact` variant computes in float64 even where float32 values are asked for.
        variants: one per convention that has the metric.
    """

    name: str
    symbol: str
    title: str
    direction: Literal["max", "min"]
    bounds: tuple[float | None, float | None]
    decimals: int
    differentiable: bool
    source: str
    double: bool = False
    variants: dict[str, Variant] = field(default_factory=dict)

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value means a better fusion."""
        return self.direction == "max"

    @property
    def arrow(self) -> str:
        """The arrow that tables print beside the symbol."""
        return "↑" if self.direction == "max" else "↓"

    def describe(self, convention: str = "exact") -> str:
        """The documentation of the function that `convention` uses."""
        return inspect.getdoc(self.variant(convention).function) or self.title

    def variant(self, convention: str) -> Variant:
        """The metric as `convention` computes it.

        Raises:
            ConfigError: if the convention is unknown or has no such metric; the message names those that have it.
        """
        get_convention(convention)
        if convention not in self.variants:
            raise ConfigError(
                f"metric '{self.name}' is not part of convention '{convention}'; it is in: {', '.join(self.variants)}"
            )
        return self.variants[convention]


_REGISTRY: dict[str, MetricInfo] = {}


def metric(
    name: str,
    *,
    symbol: str,
    title: str,
    direction: Literal["max", "min"] = "max",
    bounds: tuple[float | None, float | None] = (None, None),
    decimals: int = 4,
    differentiable: bool = True,
    source: str,
    also: tuple[str, ...] = (),
    double: bool = False,
) -> Callable[[PlaneFunction], PlaneFunction]:
    """Registers the decorated function as the `exact` form of a metric, and as that of the conventions `also`.

    Args:
        name: what users write.
        symbol: what tables print.
        title: the long name.
        direction: `max` if higher is better, `min` if lower is.
        bounds: range of the value; `None` where there is no bound.
        decimals: digits that papers print.
        differentiable: whether gradients reach the images.
        source: paper and equation.
        also: further conventions whose value the function gives.
        double: whether the function needs float64 planes: it subtracts nearly equal numbers, or compares for equality.

    Raises:
        ValueError: if the name is taken.

    The registered function is known to `compute`, `score`, the suites, validation and `metric_class` from then on:

        @metric("gap", symbol="GAP", title="mean gray level against the sources", direction="min", source="this file")
        def gap(t: Triple) -> Tensor:
            return (t.fused.mean((-2, -1)) - (t.a + t.b).mean((-2, -1)) / 2).abs()
    """

    def register(function: PlaneFunction) -> PlaneFunction:
        if name in _REGISTRY:
            raise ValueError(f"metric '{name}' is registered twice")
        _REGISTRY[name] = MetricInfo(name, symbol, title, direction, bounds, decimals, differentiable, source, double)
        return variant(name, "exact", *also)(function)

    return register


def variant(
    name: str,
    *conventions: str,
    color: Color | None = None,
    gray: Color | None = None,
    double: bool | None = None,
) -> Callable[[PlaneFunction], PlaneFunction]:
    """Registers the decorated function as a metric's form in some conventions.

    Args:
        name: name of a registered metric.
        *conventions: whose value the function gives.
        color: overrides the color policy of the conventions, also for gray sources.
        gray: overrides their color policy for color fused images of gray sources.
        double: whether the function needs float64 planes; the metric's own answer if not given.
    """

    def register(function: PlaneFunction) -> PlaneFunction:
        known = _REGISTRY[name]
        for each in conventions:
            house = CONVENTIONS[each]
            known.variants[each] = Variant(
                function,
                color or house.color,
                house.quantise,
                gray or (None if color else house.gray),
                known.double if double is None else double,
            )
        return function

    return register


def info(name: str) -> MetricInfo:
    """Direction, range, decimals, source and conventions of a metric.

    Raises:
        ConfigError: for an unknown name; the message names the nearest known one.

    >>> known = info("qabf")
    >>> known.symbol, known.direction, known.bounds, known.differentiable
    ('Q_ABF', 'max', (0, 0.9874), True)
    >>> list(known.variants)
    ['exact', 'vifb', 'mefb', 'tang', 'tang_legacy']
    """
    if name not in _REGISTRY:
        near = difflib.get_close_matches(str(name), _REGISTRY, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(f"metric '{name}' is not known; {hint}known: {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]


def class_name(name: str) -> str:
    """Name of a metric's torchmetrics class: `MsSsim` for `ms_ssim`."""
    return "".join(part.capitalize() for part in name.split("_"))


def names(convention: str | None = None) -> list[str]:
    """Names of all metrics, or of those that `convention` has, in the order of registration."""
    if convention is not None:
        get_convention(convention)
    return [n for n, m in _REGISTRY.items() if convention is None or convention in m.variants]
