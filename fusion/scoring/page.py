"""A leaderboard as one self-contained web page: sortable, with intervals, tests, conventions and pictures side by side."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fusion.data.files.image import read_image, resize
from fusion.files import write_text
from fusion.metrics.bootstrap import interval, resamples
from fusion.metrics.suites import Column
from fusion.scoring.jobs import Job
from fusion.scoring.leaderboard import Leaderboard, Values
from fusion.scoring.published import Published
from fusion.scoring.tables import LEVEL

ASSETS = Path(__file__).parent / "assets"
RESAMPLES = 1000
SCENES, HEIGHT, QUALITY = 6, 150, 80
"""Pictures of so many scenes, so many pixels high, JPEG."""


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
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(str(settings.get('note') or ''))}</p>",
        _table(board, values, published),
        _legend(board),
        _conventions(board, settings),
        _tests(board),
        _pictures(board, values, jobs),
    ]
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n</main><script>\n{script}</script></body></html>\n"
    )
    return write_text(path, html)


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
    return f'<div class="wide"><table id="board"><thead><tr>{"".join(heads)}</tr></thead>{body}</table></div>'


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
        '<p class="legend">Means over the pairs; small: 95% bootstrap interval of the mean '
        f"({RESAMPLES} resamples of the pairs).{ranked} Click a heading to sort.</p>"
    )


def _conventions(board: Leaderboard, settings: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(column.heading)}</th><td>{escape(column.policy)}</td></tr>'
        for column in board.suite.columns
    )
    made_by = escape(f"{settings['version']}; {settings['precision']}; {settings['sizes']}")
    return (
        f"<details><summary>How the numbers are made</summary><p>{made_by}</p>"
        f"<table><thead><tr><th>column</th><th>metric, convention, colour</th></tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _tests(board: Leaderboard) -> str:
    if not board.tests:
        return ""
    labels = {str(column.key): column.heading for column in board.suite.columns}
    rows = "".join(
        f'<tr><th scope="row">{escape(labels[test.column])}</th><td>{escape(test.best)}</td><td>{escape(test.method)}</td>'
        f"<td>{test.p:.3g}</td><td>{test.p_holm:.3g}</td></tr>"
        for test in board.tests
    )
    heads = "".join(f"<th>{name}</th>" for name in ("metric", "best", "method", "p", "p, Holm"))
    return (
        f"<details><summary>Significance: {len(board.tests)} paired tests</summary>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _pictures(board: Leaderboard, values: Values, jobs: Sequence[Job]) -> str:
    files = {(job.method, job.image): job.files for job in jobs}
    count = min(SCENES, len(board.images))
    scenes = [board.images[place * len(board.images) // count] for place in range(count)]
    first = board.suite.columns[0]
    order = sorted(board.methods, key=board.mean_rank.__getitem__)
    rows = []
    for scene in scenes:
        a, b, _ = files[(order[0], scene)]
        figures = [_figure(a, "a", ""), _figure(b, "b", "")]
        for method in order:
            value = values[method][scene][str(first.key)]
            figures.append(_figure(files[(method, scene)][2], method, f"{first.label} {value:.{first.decimals}f}"))
        rows.append(f'<section><h3>{escape(scene)}</h3><div class="strip">{"".join(figures)}</div></section>')
    return f"<h2>Pictures</h2>{''.join(rows)}"


def _figure(path: Path, name: str, note: str) -> str:
    pixels = read_image(path).pixels
    height = min(HEIGHT, pixels.shape[-2])
    width = max(1, round(pixels.shape[-1] * height / pixels.shape[-2]))
    small = resize(pixels.contiguous(), (height, width)).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "JPEG", quality=QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    caption = escape(name) + (f"<small>{escape(note)}</small>" if note else "")
    return (
        f'<figure><img width="{width}" height="{height}" alt="{escape(name)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
