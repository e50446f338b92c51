"""Paired significance: Wilcoxon's signed-rank test and Holm's correction."""

import math
from collections.abc import Sequence

EXACT_UP_TO = 50  # pairs; beyond, the normal approximation is as good


def wilcoxon(x: Sequence[float], y: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test (1945) on paired samples.

    Equal pairs are left out. Exact for up to 50 pairs without tied differences, else the normal approximation with tie
    correction and no continuity correction.

    Returns:
        p in (0, 1]; 1 where all pairs are equal.
    """
    differences = [a - b for a, b in zip(x, y, strict=True) if a != b]
    n = len(differences)
    if n == 0:
        return 1.0
    sizes = [abs(d) for d in differences]
    ranks = average_ranks(sizes)
    positive = sum(rank for rank, d in zip(ranks, differences, strict=True) if d > 0)
    smaller = min(positive, n * (n + 1) / 2 - positive)
    ties = [sizes.count(size) for size in set(sizes)]
    if n <= EXACT_UP_TO and max(ties) == 1:
        return min(1.0, 2 * _tail(n, int(smaller)))
    variance = n * (n + 1) * (2 * n + 1) / 24 - sum(t**3 - t for t in ties) / 48
    return math.erfc(abs(smaller - n * (n + 1) / 4) / math.sqrt(2 * variance))


def _tail(n: int, statistic: int) -> float:
    """Probability that the rank sum of random signs is at most `statistic`."""
    ways = [1] + [0] * statistic  # subsets of the ranks 1..n by their sum
    for rank in range(1, n + 1):
        for total in range(statistic, rank - 1, -1):
            ways[total] += ways[total - rank]
    return sum(ways) / 2**n


def average_ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1 for the smallest; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for i in order[start : end + 1]:
            ranks[i] = (start + end) / 2 + 1
        start = end + 1
    return ranks


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): p-values that keep the family-wise error rate, in the given order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for step, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - step) * p_values[i]))
        adjusted[i] = running
    return adjusted
