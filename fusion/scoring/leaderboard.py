"""From per-image values of several methods to a leaderboard: means, ranks, significance."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from fusion.errors import DataError
from fusion.metrics.suites import Column, Suite
from fusion.scoring.significance import average_ranks, holm, wilcoxon

Values = Mapping[str, Mapping[str, Mapping[str, float]]]
"""`values[method][image][column]`."""


@dataclass(frozen=True)
class Test:
    """Wilcoxon's test of a method against the best one of a column."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    column: str
    best: str
    method: str
    p: float
    p_holm: float


@dataclass(frozen=True)
class Leaderboard:
    """Methods compared on the images that all of them have.

    Attributes:
        suite: the columns.
        methods: in the order given.
        images: names of the images that every method has.
        means: `means[method][column]` over `images`.
        deviations: sample standard deviations, 0 for a single image.
        ranks: `ranks[method][column]`, 1 is best; equal means share a rank.
        mean_rank: per method, over the columns.
        tests: each method against the best one of each column, Holm-corrected over the methods of the column.
    """

    suite: Suite
    methods: list[str]
    images: list[str]
    means: dict[str, dict[str, float]]
    deviations: dict[str, dict[str, float]]
    ranks: dict[str, dict[str, float]]
    mean_rank: dict[str, float]
    tests: list[Test]

    def place(self, method: str, column: str) -> int:
        """1 for the best printed value of a column, 2 for the second, 0 for others or where nothing is compared."""
        if len(self.methods) < 2:
            return 0
        wanted = next(c for c in self.suite.columns if str(c.key) == column)
        printed = {m: round(self.means[m][column], wanted.decimals) for m in self.methods}
        order = sorted(set(printed.values()), reverse=wanted.info.higher_is_better)
        place = order.index(printed[method]) + 1
        return place if place <= 2 else 0


def compare(suite: Suite, values: Values) -> Leaderboard:
    """Compares methods on the images that all of them have.

    Args:
        suite: the columns.
        values: per method, image and column; every row has every column.

    Raises:
        DataError: if no image is common to all methods.
    """
    methods = list(values)
    common = [image for image in values[methods[0]] if all(image in values[m] for m in methods)] if methods else []
    if not common:
        counts = ", ".join(f"{m} {len(values[m])}" for m in methods)
        raise DataError(f"no image was scored for every method (images per method: {counts or 'none'})")
    means, deviations = {}, {}
    for method in methods:
        columns = {key: [values[method][image][key] for image in common] for key in suite.keys}
        means[method] = {key: fmean(column) for key, column in columns.items()}
        deviations[method] = {key: _deviation(column) for key, column in columns.items()}
    ranks: dict[str, dict[str, float]] = {method: {} for method in methods}
    tests: list[Test] = []
    for column in suite.columns:
        key = str(column.key)
        order = average_ranks([_cost(means[method][key], column) for method in methods])
        for method, rank in zip(methods, order, strict=True):
            ranks[method][key] = rank
        tests += _tests(column, values, methods, common, min(methods, key=lambda m: ranks[m][key]))
    mean_rank = {method: fmean(ranks[method].values()) for method in methods}
    return Leaderboard(suite, methods, common, means, deviations, ranks, mean_rank, tests)


def _deviation(column: list[float]) -> float:
    return stdev(column) if len(column) > 1 and all(map(math.isfinite, column)) else 0.0


def _cost(value: float, column: Column) -> float:
    return -value if column.info.higher_is_better else value


def _tests(column: Column, values: Values, methods: list[str], images: list[str], best: str) -> list[Test]:
    key = str(column.key)
    others = [method for method in methods if method != best]
    own = [values[best][image][key] for image in images]
    p_values = [wilcoxon(own, [values[method][image][key] for image in images]) for method in others]
    corrected = holm(p_values)
    return [Test(key, best, *row) for row in zip(others, p_values, corrected, strict=True)]
