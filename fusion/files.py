"""Tables as CSV and Markdown, each file written whole or not at all."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def number(value: Any, decimals: int = 4) -> str:
    """A value as a table shows it: floats rounded, "-" for nothing and not-a-number, whole numbers with separators."""
    if value is None or value != value:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.{decimals}f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]], decimals: int = 4) -> str:
    """A Markdown table whose columns are aligned, so that it reads well as plain text too.

    Args:
        header: column names.
        rows: values, see `number`; columns of numbers are aligned to the right.
        decimals: of floats.
    """
    cells = [list(header), *([number(value, decimals).replace("|", "\\|") for value in row] for row in rows)]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(header))]
    right = [all(isinstance(row[i], int | float | None) for row in rows) and bool(rows) for i in range(len(header))]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 1) + ":" if r else "-" * (w + 2) for w, r in zip(widths, right, strict=True))
    return "\n".join([line(cells[0]), f"|{rule}|", *(line(row) for row in cells[1:])]) + "\n"


def write_text(path: Path, text: str) -> Path:
    """Write a text file under a temporary name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="")
    os.replace(temporary, path)
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], header: Sequence[str] | None = None) -> Path:
    """Write rows as a table, whole or not at all.

    Args:
        path: file to write.
        rows: values by column.
        header: the columns to write and their order; the first row's, if not given.
    """
    buffer = io.StringIO()
    columns = list(header if header is not None else rows[0] if rows else [])
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    return write_text(path, buffer.getvalue())
