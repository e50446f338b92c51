"""Scoring folders: tables, bad files, mistakes, and the command line killed at work."""

import csv
import itertools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from fusion.errors import ConfigError, DataError
from fusion.job.config import config_dir
from fusion.metrics import score
from fusion.scoring import PartialError, score_folders

VALUES = '"values"'  # of a journal's line


def make_folders(root, count, size):
    rng = np.random.default_rng(0)
    for name in ("a", "b", "fused/One", "fused/Two"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        a, b = (rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2))
        mean = ((a.astype(int) + b) // 2).astype(np.uint8)
        Image.fromarray(a).save(root / "a" / f"{i}.png")
        Image.fromarray(b).save(root / "b" / f"{i}.bmp")
        Image.fromarray(mean).save(root / "fused" / "One" / f"{i}_One.png")
        Image.fromarray(a).save(root / "fused" / "Two" / f"{i}.png")


@pytest.fixture
def folders(tmp_path):
    make_folders(tmp_path, 5, (24, 26))
    return tmp_path


def load_suite(name):
    return OmegaConf.to_container(OmegaConf.load(config_dir() / "metrics" / f"{name}.yaml"))


def config(folder, **changes):
    fused = {"One": str(folder / "fused" / "One"), "Two": str(folder / "fused" / "Two")}
    suite = {"name": "mine", "metrics": ["qabf@vifb", "en"]}
    fixed = {"precision": "float64", "device": "cpu", "workers": 1, "resume": True, "plot": "png"}
    paths = {"a": str(folder / "a"), "b": str(folder / "b"), "fused": fused, "out": str(folder / "out" / "board.csv")}
    return {**paths, "suite": suite, **fixed, **changes}


def test_scenes_in_one_folder(folders):
    scenes = folders / "scenes"
    for i in range(5):
        (scenes / f"{i}").mkdir(parents=True)
        (folders / "a" / f"{i}.png").rename(scenes / f"{i}" / f"{i}_A.png")
        (folders / "b" / f"{i}.bmp").rename(scenes / f"{i}" / f"{i}_B.bmp")
    result = score_folders(config(folders, a=str(scenes), b=str(scenes)))  # would raise if a file were left out
    assert result.images == [str(i) for i in range(5)]
    (scenes / "4" / "4_B.bmp").unlink()
    with pytest.raises(PartialError, match="4_A: source without a partner"):
        score_folders(config(folders, a=str(scenes), b=str(scenes)))


def test_scoring_folders_writes_every_table(folders):
    result = score_folders(config(folders))
    out = folders / "out"
    with (out / "board.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["image"]) for row in rows] == [*itertools.product(["One", "Two"], "01234")]
    triple = [
        np.asarray(Image.open(p)) for p in (folders / "a/2.png", folders / "b/2.bmp", folders / "fused/One/2_One.png")
    ]
    values = score(*triple, ["qabf@vifb", "en"])
    assert float(rows[2]["qabf@vifb:channels"]) == pytest.approx(values["qabf@vifb"])
    assert float(rows[2]["en@exact:luma"]) == pytest.approx(values["en"])
    assert "never resized" in rows[0]["made by"]
    assert result.means["One"]["en@exact"] == pytest.approx(np.mean([float(r["en@exact:luma"]) for r in rows[:5]]))
    written = {path.name for path in out.iterdir()}
    suffixes = {".csv", ".json", ".md", ".tex", "_summary.csv", "_tests.csv", "_plot.png"}
    assert written == {f"board{suffix}" for suffix in suffixes}
    assert json.loads((out / "board.json").read_text())["columns"] == ["qabf@vifb, channels", "en@exact, luma"]


def test_bad_files_are_named_and_do_not_lose_the_rest(folders):
    (folders / "fused" / "One" / "1_One.png").write_bytes(b"not an image")
    (folders / "fused" / "Two" / "3.png").unlink()
    Image.new("RGB", (20, 24)).save(folders / "fused" / "Two" / "2.png")
    (folders / "b" / "0.bmp").rename(folders / "b" / "lone.bmp")
    with pytest.raises(PartialError) as caught:
        score_folders(config(folders))
    said = str(caught.value)
    for part in ("1_One.png", "no fused image named 3", "sizes differ", "lone: source without a partner"):
        assert part in said
    assert caught.value.status == 1
    with (folders / "out" / "board.csv").open() as file:
        assert [(r["method"], r["image"]) for r in csv.DictReader(file)] == [
            *[("One", "2"), ("One", "3"), ("One", "4")],
            *[("Two", "1"), ("Two", "4")],
        ]


def test_without_a_common_image_the_scores_are_not_lost(folders):
    for i in (1, 2, 3, 4):
        (folders / "fused" / "One" / f"{i}_One.png").unlink()
    (folders / "fused" / "Two" / "0.png").unlink()
    with pytest.raises(DataError, match="every method"):
        score_folders(config(folders))
    partial = (folders / "out" / "board.csv.partial").read_text()
    assert partial.count('"values"') == 5


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"fused": {}}, ConfigError, "no folder given"),
        ({"a": "nowhere"}, DataError, "no such folder"),
        ({"precision": "half"}, ConfigError, "float64 or float32"),
        ({"plot": "gif"}, ConfigError, "png, pdf, svg"),
        ({"device": "gpu"}, ConfigError, "auto, cpu, cuda"),
        ({"suite": {"metrics": ["qabff"]}}, ConfigError, "did you mean 'qabf'"),
    ],
)
def test_mistakes_are_answered(folders, change, error, said):
    with pytest.raises(error, match=said):
        score_folders(config(folders, **change))


def descendants(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    own = [int(child) for file in files for child in file.read_text().split()]
    return own + [pid for child in own for pid in descendants(child)]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_killed_run_leaves_no_process_and_goes_on_where_it_was(tmp_path):
    """The command line with two processes, killed at work; then in one go, with a file that cannot be read."""
    make_folders(tmp_path, 6, (160, 150))
    (tmp_path / "fused" / "One" / "5_One.png").write_bytes(b"not an image")
    command = [sys.executable, "-m", "fusion.score", f"a={tmp_path}/a", f"b={tmp_path}/b", "plot=null", "suite=all"]
    command += [f"+fused.One={tmp_path}/fused/One", f"fused.Two={tmp_path}/fused/Two", f"out={tmp_path}/out/board.csv"]
    journal = tmp_path / "out" / "board.csv.partial"
    running = subprocess.Popen([*command, "workers=2"], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: running.poll() is not None or (journal.is_file() and journal.read_text().count(VALUES) >= 2))
        helpers = descendants(running.pid)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert len(helpers) >= 2
    assert not (tmp_path / "out" / "board.csv").exists()
    before = journal.read_text().count(VALUES)
    assert 2 <= before < 11
    wait_for(lambda: not any(map(alive, helpers)))

    done = subprocess.run([*command, "workers=1"], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "5_One.png" in done.stderr and "Traceback" not in done.stderr
    assert re.search(r"^(\d+) of 12 images were scored before", done.stdout, re.M)[1] in {str(before), str(before - 1)}
    assert re.search(r"\| One +\|", done.stdout) and "Q_ABF ↑" in done.stdout
    at_once = tmp_path / "at_once" / "board.csv"
    with pytest.raises(PartialError, match="5_One.png"):
        score_folders(config(tmp_path, suite=load_suite("all"), out=str(at_once), plot=None))
    for name in ("board.csv", "board_summary.csv", "board_tests.csv", "board.md", "board.tex"):
        assert rounded((tmp_path / "out" / name).read_text()) == rounded(at_once.with_name(name).read_text()), name


def rounded(text: str) -> str:
    """Threads may sum in another order: numbers to eight digits."""
    return re.sub(r"-?\d+\.\d{6,}(e-?\d+)?", lambda m: f"{float(m[0]):.8g}", text)
