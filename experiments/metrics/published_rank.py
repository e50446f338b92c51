"""The place of a method among those that a benchmark publishes per-image values of.

    python -m fusion.score a=SOURCES b=SOURCES +fused.Ours=DIR suite=mefb out=ours.csv
    python experiments/metrics/published_rank.py ours.csv PUBLISHED.csv

PUBLISHED has the columns image, method and the suite's metrics in its order, as VIFB and MEFB publish them (13 and 20 metrics).
Means are over the images that everyone has; ranks are of these means, and the mean rank is over the metrics. With --draws N the
images are drawn N times with replacement, to see how much the mean rank and the place depend on which images they are.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from fusion.files import markdown
from fusion.metrics import info

NAMED = ("method", "image", "made by")


def read(path: Path) -> tuple[list[str], dict[str, dict[str, list[float]]]]:
    """Names of the metrics, and values by method and image."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    metrics = [key for key in rows[0] if key not in NAMED]
    values: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for row in rows:
        values[row["method"]][row["image"]] = [float(row[key]) for key in metrics]
    return metrics, values


def ranks_of(table: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Ranks `(methods, metrics)` of the means over the images of `(methods, images, metrics)`; sign -1: more is better."""
    return np.stack([rankdata(column) for column in (table.mean(1) * signs).T], axis=1)


def drawn(table: np.ndarray, signs: np.ndarray, draws: int, seed: int = 0) -> np.ndarray:
    """Mean ranks `(draws, methods)` over images drawn with replacement."""
    random = np.random.default_rng(seed)
    chosen = random.integers(table.shape[1], size=(draws, table.shape[1]))
    return np.stack([ranks_of(table[:, images], signs).mean(1) for images in chosen])


def main() -> None:
    """Print the means and ranks of ours and of the methods asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours", type=Path)
    parser.add_argument("published", type=Path)
    parser.add_argument("--beside", nargs="*", default=["IFCNN", "U2Fusion"], help="published methods to print")
    parser.add_argument("--draws", type=int, default=0, help="of the images with replacement; 0 draws none")
    arguments = parser.parse_args()
    metrics, ours = read(arguments.ours)
    names, published = read(arguments.published)
    if len(names) != len(metrics):
        parser.error(f"{len(metrics)} metrics of ours, {len(names)} published: score with the suite of that benchmark")
    methods = {**published, **ours}
    images = sorted(set.intersection(*(set(values) for values in methods.values())))
    table = np.array([[values[image] for image in images] for values in methods.values()])  # method, image, metric
    signs = np.array([-1 if info(metric.split("@")[0]).higher_is_better else 1 for metric in metrics])
    means, ranks = table.mean(1), ranks_of(table, signs)
    order = np.argsort(ranks.mean(1))
    place = {list(methods)[index]: position + 1 for position, index in enumerate(order)}
    shown = [name for name in (*ours, *arguments.beside) if name in methods]
    rows = []
    for column, name in enumerate(names):
        cells = [(means[index, column], ranks[index, column]) for index in (list(methods).index(m) for m in shown)]
        rows.append([name, *(f"{mean:.4g} ({rank:g})" for mean, rank in cells)])
    overall = [ranks[list(methods).index(name)].mean() for name in shown]
    rows.append(["mean rank", *(f"{rank:.2f}, place {place[name]}" for rank, name in zip(overall, shown, strict=True))])
    print(f"{len(images)} images, {len(methods)} methods; mean (rank of the mean)")
    print(markdown(["metric", *shown], rows))
    if arguments.draws:
        found = drawn(table, signs, arguments.draws)
        for name in shown:
            own = found[:, list(methods).index(name)]
            low, high = np.quantile(own, [0.05, 0.95])
            first = (own <= found.min(1)).mean()
            print(f"{name}: {low:.2f} to {high:.2f} in nine of ten draws of the images, first in {first:.0%}")


if __name__ == "__main__":
    main()
