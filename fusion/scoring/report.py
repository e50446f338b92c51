"""The files that a scoring run leaves: tables as CSV, Markdown and LaTeX, tests, settings, a plot."""

import json
from pathlib import Path
from typing import Any

from fusion.files import write_text
from fusion.scoring.leaderboard import Leaderboard
from fusion.scoring.plots import distributions
from fusion.scoring.tables import image_csv, latex, markdown, summary_csv, tests_csv


def write_report(
    board: Leaderboard,
    values: dict[str, dict[str, dict[str, float]]],
    settings: dict[str, Any],
    out: Path,
    plot: str | None,
) -> None:
    """Writes the table per image, the summaries, the tests, the settings and the plot, and prints the Markdown summary.

    Args:
        board: the comparison.
        values: what it was made of, per method, image and column.
        settings: how the numbers were made.
        out: the CSV file per image; the others lie beside it under its stem.
        plot: format of the plot, `None` for none.
    """
    made_by = f"{settings['version']}; {settings['precision']}; {settings['sizes']}"
    notes = [
        f"suite {settings['suite']}" + (f": {settings['note']}" if settings["note"] else ""),
        f"{len(board.images)} images{' that every method has' if len(board.methods) > 1 else ''}; {made_by}",
        "conventions: " + "; ".join(settings["columns"]),
    ]
    write_text(out, image_csv(board.suite, values, made_by))
    write_text(out.with_suffix(".json"), json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    write_text(out.with_name(f"{out.stem}_summary.csv"), summary_csv(board, made_by))
    write_text(out.with_suffix(".md"), markdown(board, notes))
    write_text(out.with_suffix(".tex"), latex(board, notes))
    if len(board.methods) > 1:
        write_text(out.with_name(f"{out.stem}_tests.csv"), tests_csv(board))
    if plot:
        distributions(board, values, out.with_name(f"{out.stem}_plot.{plot}"))
    print(markdown(board, notes))
