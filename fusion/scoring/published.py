"""Published values to show beside measured ones."""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from fusion.errors import DataError
from fusion.metrics import Suite

Published = Sequence[tuple[str, dict[str, float]]]
"""Method and its values by column of the suite."""


def read_published(path: str | Path | None, suite: Suite, images: Sequence[str] = ()) -> Published:
    """Rows of a CSV with a column `method` and columns named as the suite's metrics, labels or full keys, case aside.

    With a column `image`, as benchmarks publish their values, a method's values are means over those of `images` that it
    has; methods that have none are left out.

    Args:
        path: the file; None: nothing.
        suite: the columns that are looked for; others are left aside.
        images: names of the scored pairs.

    Raises:
        DataError: no such file, no column `method`, none of the suite's metrics, a value that is no number, or other images.
    """
    if path is None:
        return []
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    except OSError as error:
        raise DataError(f"published={path}: cannot be read ({error.strerror or error})") from error
    headings = {(name or "").strip().casefold(): name for name in (rows[0] if rows else {})}
    if "method" not in headings:
        raise DataError(f"published={path}: expected a column 'method', found {', '.join(headings) or 'nothing'}")
    found = {}
    for column in suite.columns:
        names = (str(column.key), column.key.name, column.label)
        heading = next((headings[name.casefold()] for name in names if name.casefold() in headings), None)
        if heading is not None:
            found[str(column.key)] = heading
    if not found:
        raise DataError(
            f"published={path}: none of the suite's metrics ({', '.join(c.key.name for c in suite.columns)})"
        )
    wanted = {name.casefold() for name in images}
    collected: dict[str, dict[str, list[float]]] = {}
    for place, row in enumerate(rows, 2):
        if "image" in headings and row[headings["image"]].casefold() not in wanted:
            continue
        values = collected.setdefault(str(row[headings["method"]]), {key: [] for key in found})
        for key, heading in found.items():
            if text := (row[heading] or "").strip():
                try:
                    values[key].append(float(text))
                except ValueError:
                    raise DataError(f"published={path}, line {place}: '{text}' is no number") from None
    if not collected:
        raise DataError(f"published={path}: none of its images is among the {len(images)} that were scored")
    return [
        (method, {key: fmean(drawn) for key, drawn in values.items() if drawn}) for method, values in collected.items()
    ]
