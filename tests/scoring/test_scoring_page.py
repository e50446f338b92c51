"""The leaderboard page: complete, self-contained, safe, and what its intervals and published rows say."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.data.files.image import write_image
from fusion.errors import DataError
from fusion.metrics import Suite
from fusion.scoring.jobs import find_jobs
from fusion.scoring.leaderboard import compare
from fusion.scoring.page import mean_intervals, write_page
from fusion.scoring.published import read_published

SUITE = Suite.from_config({"name": "mine", "metrics": ["qabf", {"metric": "qcv", "decimals": 1}], "note": "a < b"})
SETTINGS = {"suite": "mine", "note": "a < b", "version": "v", "precision": "float64", "sizes": "never resized"}


class Balanced(HTMLParser):
    """Fails on tags that are not closed in order."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def made(tmp_path: Path):
    """Four pairs, three methods; values that differ clearly in one column and hardly in the other."""
    rng = np.random.default_rng(0)
    for folder in ("a", "b", "f0", "f1", "f2"):
        for name in "wxyz":
            write_image(tmp_path / folder / f"{name}.png", torch.rand(3, 40, 60))
    methods = {"Ours <1>": tmp_path / "f0", "IFCNN": tmp_path / "f1", "Mean & Co": tmp_path / "f2"}
    jobs, problems = find_jobs(tmp_path / "a", tmp_path / "b", methods)
    assert not problems
    keys = SUITE.keys
    values = {
        method: {
            image: {keys[0]: 0.5 - 0.1 * i + 0.01 * rng.random(), keys[1]: 100 + 10 * i + rng.random()}
            for image in "wxyz"
        }
        for i, method in enumerate(methods)
    }
    return compare(SUITE, values), values, jobs


def test_page_is_complete_and_needs_nothing_else(made, tmp_path):
    board, values, jobs = made
    path = write_page(board, values, jobs, SETTINGS, tmp_path / "out/board.html")
    text = path.read_text()
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    assert parser.seen.count("img") == 4 * (2 + 3) and text.count("data:image/jpeg;base64,") == 20
    assert not re.search(r'(src|href)="(?!data:|#)', text) and "http" not in text.replace("http-equiv", "")
    assert "Ours &lt;1&gt;" in text and "Mean &amp; Co" in text and "<1>" not in text and "a &lt; b" in text
    for column in SUITE.columns:
        assert column.heading in text and column.policy in text
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    assert [m for m in re.findall(r'scope="row" data-value="([^"]+)"', body)][
        0
    ] == "Ours &lt;1&gt;"  # best mean rank first
    assert body.count("<small>") == 6 and "Holm" in text


def test_intervals_hold_the_mean_and_shrink_with_more_pairs(made):
    board, values, _ = made
    for method, columns in mean_intervals(board, values).items():
        for key, bounds in columns.items():
            assert bounds is not None and bounds[0] <= board.means[method][key] <= bounds[1]
    wide = {"m": {str(i): dict.fromkeys(SUITE.keys, float(i % 2)) for i in range(6)}}
    narrow = {"m": {str(i): dict.fromkeys(SUITE.keys, float(i % 2)) for i in range(60)}}
    low, high = mean_intervals(compare(SUITE, wide), wide)["m"][SUITE.keys[0]]
    lower, higher = mean_intervals(compare(SUITE, narrow), narrow)["m"][SUITE.keys[0]]
    assert high - low > 2 * (higher - lower) > 0
    without = {"m": {"1": dict.fromkeys(SUITE.keys, float("inf"))}}
    assert mean_intervals(compare(SUITE, without), without)["m"][SUITE.keys[0]] is None


def test_published_rows_stand_below_and_are_not_ranked(made, tmp_path):
    board, values, jobs = made
    (tmp_path / "table.csv").write_text("# from the paper\nMethod,QABF,other\nTheirs,0.61,9\nGap,,1\n")
    rows = read_published(tmp_path / "table.csv", SUITE)
    assert rows == [("Theirs", {SUITE.keys[0]: 0.61}), ("Gap", {})]
    text = write_page(board, values, jobs, SETTINGS, tmp_path / "board.html", rows).read_text()
    published = text[text.index('class="published"') :]
    assert "Theirs" in published and "0.61" in published and "not ranked" in published
    assert read_published(None, SUITE) == []
    (tmp_path / "pairs.csv").write_text("image,method,Qabf\nw,Theirs,0.5\nX,Theirs,0.7\nother,Theirs,9\nother,Gone,9\n")
    (only,) = read_published(tmp_path / "pairs.csv", SUITE, ["w", "x", "y"])
    assert only == ("Theirs", {SUITE.keys[0]: pytest.approx(0.6)})
    with pytest.raises(DataError, match="none of its images is among the 1 that were scored"):
        read_published(tmp_path / "pairs.csv", SUITE, ["z"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("name,qabf\nx,1\n", "expected a column 'method', found name, qabf"),
        ("method,ssim\nx,1\n", r"none of the suite's metrics \(qabf, qcv\)"),
        ("method,qabf\nx,high\n", "line 2: 'high' is no number"),
    ],
)
def test_published_tables_that_cannot_be_used_are_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "table.csv").write_text(content)
    with pytest.raises(DataError, match=f"published=.*{said}"):
        read_published(tmp_path / "table.csv", SUITE)
