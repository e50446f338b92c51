"""Places among published methods, and how far they depend on the images."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "metrics"))

import published_rank


def test_draws_agree_where_all_images_do_and_differ_where_they_do_not():
    signs = np.array([-1, 1])  # more is better, less is better
    settled = np.stack([np.stack([level + np.zeros(6), -level + np.zeros(6)], axis=1) for level in (3.0, 2.0, 1.0)])
    assert published_rank.ranks_of(settled, signs).tolist() == [[1, 1], [2, 2], [3, 3]]
    assert (published_rank.drawn(settled, signs, 20) == [1, 2, 3]).all()
    unsettled = settled.copy()
    unsettled[2, 0] = [100, -100]  # the worst one is far ahead on one image
    firsts = published_rank.drawn(unsettled, signs, 400).argmin(1)
    assert (firsts == 2).mean() == pytest.approx(1 - (5 / 6) ** 6, abs=0.08)  # draws that have that image


def test_the_place_is_printed_with_its_draws(tmp_path, monkeypatch, capsys):
    rows = {"Ours": (0.9, 0.8), "First": (0.5, 0.6), "Second": (0.4, 0.1)}
    files = {"ours.csv": ["Ours"], "published.csv": ["First", "Second"]}
    for name, methods in files.items():
        lines = [f"{image},{m},{rows[m][i]}" for m in methods for i, image in enumerate(("one", "two"))]
        (tmp_path / name).write_text("\n".join(["image,method,qabf", *lines]) + "\n")
    paths = [str(tmp_path / name) for name in files]
    monkeypatch.setattr(sys, "argv", ["published_rank.py", *paths, "--beside", "First", "--draws", "50"])
    published_rank.main()
    said = capsys.readouterr().out
    assert "2 images, 3 methods" in said and "1.00, place 1" in said
    assert "Ours: 1.00 to 1.00 in nine of ten draws of the images, first in 100%" in said
