"""How far every metric lies from the original toolbox, on the pictures in tests/data/metrics: a Markdown table.

    python experiments/metrics/agreement.py > experiments/metrics/agreement.md

`golden.csv` holds what the unmodified toolboxes gave in GNU Octave. "Textured" are photographs cut from scikit-image's
samples; "edge cases" are constant images, identical sources and the like, where toolboxes divide by zero or by rounding
noise.
"""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from fusion.metrics import score

DATA = Path(__file__).parents[2] / "tests" / "data" / "metrics"


def main() -> None:
    """Prints the table."""
    with (DATA / "golden.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["convention"] != "octave"]
    wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row["metric"] not in wanted[row["picture"], row["convention"]]:
            wanted[row["picture"], row["convention"]].append(row["metric"])
    ours = {}
    for (picture, convention), metrics in wanted.items():
        triple = [np.asarray(Image.open(DATA / "pictures" / picture / f"{x}.png")) for x in ("a", "b", "fused")]
        ours[picture, convention] = score(*triple, metrics, convention)
    found: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        value = ours[row["picture"], row["convention"]][row["metric"]]
        kind = "edge" if row["picture"].startswith("edge") else "textured"
        cell = found[row["metric"], row["convention"], row["toolbox"]]
        if row["value"]:
            cell[kind].append(abs(value - float(row["value"])) / max(abs(float(row["value"])), 0.1))
        else:
            cell["failed"].append(value)
    print(
        "| metric | convention | toolbox function | textured: count, largest deviation | edge cases | toolbox fails |"
    )
    print("|---|---|---|---:|---:|---:|")
    for (metric, convention, toolbox), cell in sorted(found.items()):
        textured, edge = (f"{len(v)}, {max(v):.1e}" if (v := cell[kind]) else "-" for kind in ("textured", "edge"))
        print(f"| {metric} | {convention} | {toolbox} | {textured} | {edge} | {len(cell['failed']) or '-'} |")
    print(
        "\nDeviation: relative, or absolute / 0.1 for values below 0.1. Where the toolbox fails (NaN, crash, infinity)"
    )
    print("ours is the limit that the metric's documentation states.")


if __name__ == "__main__":
    main()
