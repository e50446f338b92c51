"""A leaderboard as a web page: sortable, with intervals, tests, conventions and pictures side by side."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from fusion import pages
from fusion.data.files.image import read_image, resize
from fusion.metrics.bootstrap import interval, resamples
from fusion.metrics.suites import Column
from fusion.scoring.jobs import Job
from fusion.scoring.leaderboard import Leaderboard, Values
from fusion.scoring.published import Published
from fusion.scoring.tables import LEVEL

RESAMPLES = 1000
SCENES, HEIGHT = 6, 150
"""Pictures of so many scenes, so many pixels high."""


def write_page(
    board: Leaderboard,
    values: Values,
    jobs: Sequence[Job],
    settings: Mapping[str, Any],
    path: Path,
    published: Published = (),
) -> Path:
    """Write the page; it needs no other file and no network.

    Args:
        board: the comparison.
        values: what it was made of.
        jobs: files of the pictures.
        settings: how the numbers were made.
        path: HTML file to write.
        published: rows of published values, shown below and not ranked.

    Returns:
        `path`.

    Raises:
        DataError: a picture cannot be read.
    """
    title = f"{settings['suite']}: {len(board.methods)} methods on {len(board.images)} pairs"
    table = Markup(_table(board, values, published) + _legend(board))
    folded = {"How the numbers are made": _conventions(board, settings)}
    if board.tests:
        folded[f"Significance: {len(board.tests)} paired tests"] = _tests(board)
    sections = [
        pages.Section("", markup=table, folded=folded),
        pages.Section("Pictures", strips=_pictures(board, values, jobs)),
    ]
    return pages.write_page(title, str(settings.get("note") or ""), sections, path)


def mean_intervals(board: Leaderboard, values: Values) -> dict[str, dict[str, tuple[float, float] | None]]:
    """95% bootstrap interval of every method's mean of every column over the common images."""
    counts = resamples(len(board.images), RESAMPLES) / len(board.images)
    found: dict[str, dict[str, tuple[float, float] | None]] = {}
    for method in board.methods:
        table = np.array([[values[method][image][key] for key in board.suite.keys] for image in board.images])
        with np.errstate(invalid="ignore"):
            drawn = counts @ table
        found[method] = {key: interval(drawn[:, place]) for place, key in enumerate(board.suite.keys)}
    return found


def _table(board: Leaderboard, values: Values, published: Published) -> str:
    columns = board.suite.columns
    intervals = mean_intervals(board, values)
    tests = {(test.method, test.column): test for test in board.tests}
    heads = ['<th scope="col" data-kind="text" aria-sort="none"><button>method</button></th>']
    heads.append('<th scope="col" data-kind="low" aria-sort="none"><button>mean rank \u2193</button></th>')
    for column in columns:
        better = "high" if column.info.higher_is_better else "low"
        heads.append(
            f'<th scope="col" data-kind="{better}" aria-sort="none" title="{escape(column.policy)}">'
            f"<button>{escape(column.heading)}</button></th>"
        )
    rows = []
    for method in sorted(board.methods, key=board.mean_rank.__getitem__):
        rank = board.mean_rank[method]
        cells = [f'<th scope="row" data-value="{escape(method)}">{escape(method)}</th>']
        cells.append(f'<td data-value="{rank}"><b>{rank:.2f}</b></td>')  # a wide table hides its last column
        for column in columns:
            key = str(column.key)
            cells.append(_cell(board, method, column, intervals[method][key], tests.get((method, key))))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    body = f"<tbody>{''.join(rows)}</tbody>"
    if published:
        said = "published: means over the same pairs if published pair by pair, else as published; not ranked"
        lines = [f'<tr><th colspan="{len(columns) + 2}">{said}</th></tr>']
        for method, given in published:
            cells = [f'<th scope="row">{escape(method)}</th><td></td>']
            for column in columns:
                value = given.get(str(column.key))
                cells.append(f"<td>{'' if value is None else f'{value:.{column.decimals}f}'}</td>")
            lines.append(f"<tr>{''.join(cells)}</tr>")
        body += f'<tbody class="published">{"".join(lines)}</tbody>'
    return f'<div class="scroll"><table class="board"><thead><tr>{"".join(heads)}</tr></thead>{body}</table></div>'


def _cell(board: Leaderboard, method: str, column: Column, bounds: tuple[float, float] | None, test: Any) -> str:
    key = str(column.key)
    mean, digits = board.means[method][key], column.decimals
    text = f"{mean:.{digits}f}" if math.isfinite(mean) else str(mean)
    place = board.place(method, key)
    text = f"<b>{text}</b>" if place == 1 else f"<u>{text}</u>" if place == 2 else text
    said = [column.policy, f"rank {board.ranks[method][key]:g}"]
    sign = ""
    if test is not None:
        sign = "" if test.p_holm < LEVEL else ' <span class="same">=</span>'
        said.append(f"against {test.best}: p = {test.p_holm:.3g} (Holm)")
    shown = "" if bounds is None else f"<small>{bounds[0]:.{digits}f} \u2013 {bounds[1]:.{digits}f}</small>"
    share = 1 - (board.ranks[method][key] - 1) / max(1, len(board.methods) - 1)
    title = escape("; ".join(said))
    return f'<td data-value="{mean}" style="--share:{share:.2f}" title="{title}">{text}{sign}{shown}</td>'


def _legend(board: Leaderboard) -> str:
    ranked = (
        f' <b>Bold</b>: best, <u>underlined</u>: second, <span class="same">=</span>: no significant difference from the '
        f"best (Wilcoxon signed-rank over the pairs, Holm-corrected, {LEVEL}); shades follow the ranks."
        if len(board.methods) > 1
        else ""
    )
    return (
        '<p class="note">Means over the pairs; small: 95% bootstrap interval of the mean '
        f"({RESAMPLES} resamples of the pairs).{ranked} Click a heading to sort.</p>"
    )


def _conventions(board: Leaderboard, settings: Mapping[str, Any]) -> pages.Table:
    rows = [[column.heading, column.policy] for column in board.suite.columns]
    made_by = f"{settings['version']}; {settings['precision']}; {settings['sizes']}"
    return pages.Table(["column", "metric, convention, colour"], rows, made_by)


def _tests(board: Leaderboard) -> pages.Table:
    labels = {str(column.key): column.heading for column in board.suite.columns}
    rows = [[labels[t.column], t.best, t.method, f"{t.p:.3g}", f"{t.p_holm:.3g}"] for t in board.tests]
    return pages.Table(["metric", "best", "method", "p", "p, Holm"], rows)


def _pictures(board: Leaderboard, values: Values, jobs: Sequence[Job]) -> dict[str, list[pages.Picture]]:
    files = {(job.method, job.image): job.files for job in jobs}
    count = min(SCENES, len(board.images))
    scenes = [board.images[place * len(board.images) // count] for place in range(count)]
    first = board.suite.columns[0]
    order = sorted(board.methods, key=board.mean_rank.__getitem__)
    strips = {}
    for scene in scenes:
        a, b, _ = files[(order[0], scene)]
        shown = [_picture(a, "a"), _picture(b, "b")]
        for method in order:
            value = values[method][scene][str(first.key)]
            shown.append(_picture(files[(method, scene)][2], method, f"{first.label} {value:.{first.decimals}f}"))
        strips[scene] = shown
    return strips


def _picture(path: Path, name: str, note: str = "") -> pages.Picture:
    pixels = read_image(path).pixels
    height = min(HEIGHT, pixels.shape[-2])
    width = max(1, round(pixels.shape[-1] * height / pixels.shape[-2]))
    return pages.small_picture(resize(pixels.contiguous(), (height, width)).permute(1, 2, 0).numpy(), name, note)
