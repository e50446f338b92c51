"""The leaderboard's script: one method is done anew without touching the rows of the others; Setting 1's script reads folders."""

import csv
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import torch

from fusion.data.files.image import write_image
from fusion.errors import DataError

ROOT = Path(__file__).parents[2] / "experiments"


def script(name):
    """A script as a module."""
    path = ROOT / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(path):
    with path.open(newline="") as file:
        return {(row["method"], row["image"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generator = torch.Generator().manual_seed(0)
    for index in range(3):
        for side in ("VI", "IR"):
            write_image(folder / f"VIFB/{side}/{index}.png", torch.rand(3, 48, 64, generator=generator))
    return folder


def test_a_limit_is_drawn_of_the_pairs_that_are_left(tmp_path):
    """Of pairs with boxes, where those are asked for: not of all, of which some have none."""
    for index in range(6):
        for side in ("vi", "ir"):
            write_image(tmp_path / f"MSRS/test/{side}/{index:05d}D.png", torch.rand(3, 24, 32))
        if index % 2:
            text = "<annotation><object><name>Car</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
            path = tmp_path / f"MSRS/boxes/{index:05d}D.xml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{text}</object></annotation>")
    wanted = ["data.test.msrs.labels=false", "data.test.msrs.require_boxes=true"]
    with pytest.warns(UserWarning, match="3 pairs have no box"):
        (drawn,) = script("leaderboard/board.py").datasets_of("msrs", str(tmp_path), 3, wanted)
    assert [pair.name for pair in drawn.pairs] == ["00001D", "00003D", "00005D"] and len(drawn) == 3


def test_one_method_is_done_anew_and_the_rest_stays(pairs, tmp_path, monkeypatch, capsys):
    board, out = script("leaderboard/board.py"), tmp_path / "out"
    command = [
        "board.py", str(out), "--data", str(pairs), "--set", "vifb", "--limit", "2", "--suite", "gifnet",
        "--method", "average", "--method", "Brightest=maximum",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(torch, "set_grad_enabled", lambda mode: None)
    board.main()
    first = rows(out / "vifb.csv")
    assert len(first) == 4 and {method for method, _ in first} == {"average", "Brightest"}
    assert "vifb" in (out / "vifb.html").read_text().casefold() and (out / "vifb_tests.csv").is_file()

    shutil.rmtree(out / "fused/vifb/average")
    kept = tmp_path / "scores"
    kept.mkdir()
    shutil.copy(out / "vifb.csv", kept)
    (out / "vifb.csv").unlink()
    page = (out / "vifb.html").read_bytes()
    monkeypatch.setattr(sys, "argv", [*command, "--only", "Brightest", "--scores", str(kept)])
    board.main()
    assert rows(out / "vifb.csv") == first
    assert not (out / "fused/vifb/average").exists() and (out / "vifb.html").read_bytes() == page
    assert "images of average are not here" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", [*command, "--only", "tcmoa_pyramid"])
    with pytest.raises(SystemExit):
        board.main()
    assert "--only tcmoa_pyramid: no such --method" in capsys.readouterr().err


def test_setting_1_reads_folders_and_names_what_is_missing(tmp_path):
    setting1 = script("toar/setting1.py")
    write_image(tmp_path / "Ours/one.png", torch.rand(1, 8, 12))
    methods = setting1.methods_of(tmp_path, [f"again={tmp_path / 'Ours'}"])
    assert list(methods) == ["visible", "infrared", "Ours", "again"]
    a, b = torch.rand(1, 3, 8, 12), torch.rand(1, 3, 8, 12)
    assert methods["visible"]({}, a, b) is a and methods["infrared"]({}, a, b) is b
    assert methods["Ours"]({"name": "one"}, a, b).shape == (1, 3, 8, 12)
    with pytest.raises(DataError, match=r"two.png: no such image"):
        methods["Ours"]({"name": "two"}, a, b)
    with pytest.raises(DataError, match=r"one.png: \(8, 12\), but the pair is \(9, 12\)"):
        methods["again"]({"name": "one"}, a[..., :1, :].expand(1, 3, 9, 12), b)


def test_shares_of_the_segmenter_have_intervals():
    row = script("toar/setting1.py")._shares("both", "Car", [[2, 1, 100, 80], [0, 0, 10, 0], [1, 1, 50, 50]])
    assert row["boxes"] == 3 and row["boxes found"] == pytest.approx(2 / 3)
    assert row["pixels inside boxes"] == pytest.approx(130 / 160)
    assert row["found_low"] <= row["boxes found"] <= row["found_high"] <= 1
