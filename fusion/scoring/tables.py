"""A leaderboard as CSV, Markdown and LaTeX."""

import math

from fusion.files import csv_text
from fusion.files import markdown as text_table
from fusion.metrics.suites import Suite
from fusion.scoring.leaderboard import Leaderboard, Values

LEVEL = 0.05  # of the Holm-corrected test


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else str(value)


def image_csv(suite: Suite, values: Values, made_by: str) -> str:
    """One row per method and image; headings say metric, convention and color policy, the last column the rest."""
    header = ["method", "image", *[f"{c.key.name}@{c.key.convention}:{c.key.variant.color}" for c in suite.columns]]
    rows = [
        [method, image, *(row[key] for key in suite.keys), made_by]
        for method, images in values.items()
        for image, row in images.items()
    ]
    return csv_text([[*header, "made by"], *rows])


def summary_csv(board: Leaderboard, made_by: str) -> str:
    """One row per method: mean and standard deviation per column, mean rank; full precision."""
    keys = board.suite.keys
    header = [
        "method",
        "images",
        *[f"{key} {what}" for key in keys for what in ("mean", "std")],
        "mean rank",
        "made by",
    ]
    rows = [
        [m, len(board.images)]
        + [table[m][key] for key in keys for table in (board.means, board.deviations)]
        + [board.mean_rank[m], made_by]
        for m in board.methods
    ]
    return csv_text([header, *rows])


def tests_csv(board: Leaderboard) -> str:
    """One row per method and column that is compared with the column's best method."""
    rows = [[t.column, t.best, t.method, len(board.images), t.p, t.p_holm] for t in board.tests]
    return csv_text([["metric", "best", "method", "images", "p", "p Holm"], *rows])


def markdown(board: Leaderboard, notes: list[str]) -> str:
    """Means with the best bold and the second underlined; `=` marks no significant difference from the best.

    Args:
        board: the comparison.
        notes: lines on how the numbers were made, below the table.
    """
    ranked = len(board.methods) > 1
    same = {(t.method, t.column) for t in board.tests if t.p_holm >= LEVEL}
    rows = []
    for method in board.methods:
        cells = []
        for column in board.suite.columns:
            key = str(column.key)
            text = _number(board.means[method][key], column.decimals)
            place = board.place(method, key)
            text = f"**{text}**" if place == 1 else f"<u>{text}</u>" if place == 2 else text
            cells.append(text + (" =" if (method, key) in same else ""))
        if ranked:
            cells.append(f"{board.mean_rank[method]:.2f}")
        rows.append([method, *cells])
    header = ["method", *(column.heading for column in board.suite.columns), *(["mean rank ↓"] if ranked else [])]
    table = text_table(header, rows, right=[False, *(True for _ in header[1:])])
    remarks = list(notes)
    if ranked:
        remarks.append(f"= : no significant difference from the best (Wilcoxon signed-rank, Holm, {LEVEL})")
    return "\n".join([table, *(f"- {note}" for note in remarks)]) + "\n"


def latex(board: Leaderboard, notes: list[str]) -> str:
    """A `tabular` with the best bold and the second underlined; needs no package. Notes become comments."""
    ranked = len(board.methods) > 1
    arrows = {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}
    headings = [f"{_latex_symbol(c.label)} {arrows[c.info.arrow]}" for c in board.suite.columns]
    lines = [f"% {note}" for note in notes]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(headings) + ranked)}}}", r"\hline"]
    lines += [" & ".join(["Method", *headings] + [r"Mean rank $\downarrow$"] * ranked) + r" \\", r"\hline"]
    for method in board.methods:
        cells = [_escape(method)]
        for column in board.suite.columns:
            key = str(column.key)
            text = _number(board.means[method][key], column.decimals)
            place = board.place(method, key)
            cells.append(rf"\textbf{{{text}}}" if place == 1 else rf"\underline{{{text}}}" if place == 2 else text)
        lines.append(" & ".join(cells + [f"{board.mean_rank[method]:.2f}"] * ranked) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def _latex_symbol(label: str) -> str:
    head, _, sub = label.partition("_")
    return rf"${head}_{{{_escape(sub)}}}$" if len(head) == 1 and sub else _escape(label)


def _escape(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
