"""Published values to show beside measured ones."""

import csv
from pathlib import Path

from fusion.errors import DataError
from fusion.metrics import Suite

Published = list[tuple[str, dict[str, float]]]
"""Method and its values by column of the suite."""


def read_published(path: str | Path | None, suite: Suite) -> Published:
    """Rows of a CSV with a column `method` and columns named as the suite's metrics, labels or full keys, case aside.

    Args:
        path: the file; None: nothing.
        suite: the columns that are looked for; others are left aside.

    Raises:
        DataError: no such file, no column `method`, none of the suite's metrics, or a value that is no number.
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
    published = []
    for place, row in enumerate(rows, 2):
        values = {}
        for key, heading in found.items():
            if text := (row[heading] or "").strip():
                try:
                    values[key] = float(text)
                except ValueError:
                    raise DataError(f"published={path}, line {place}: '{text}' is no number") from None
        published.append((str(row[headings["method"]]), values))
    return published
