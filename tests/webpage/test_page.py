"""What the page computes, without a browser; with Gradio where it is installed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from fusion.api import load_model
from fusion.data.files.limits import set_max_pixels
from fusion.data.files.reading import read_raster
from fusion.errors import ConfigError, DataError
from fusion.webpage.examples import examples
from fusion.webpage.fusing import SCORES, Models, fuse_files, preview, score_rows, scores_of
from fusion.webpage.serve import delete_older
from fusion.webpage.steering import controls_of, steering_of

PYRAMID = ["model.backbone.levels=2", "model.backbone.width=4", "model.weights=null"]


def picture(path: Path, size: tuple[int, int] = (40, 56), seed: int = 0, gray: bool = False) -> Path:
    coarse = torch.rand(1, 1 if gray else 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)[0]
    array = (smooth.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    Image.fromarray(array[..., 0] if gray else array).save(path)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return picture(tmp_path / "a.png"), picture(tmp_path / "b.png", seed=1, gray=True)


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_MAX_PIXELS", "1000000")


def test_a_pair_gives_pictures_scores_prompts_and_a_file(pair: tuple[Path, Path], tmp_path: Path) -> None:
    model = load_model("tcmoa_pyramid", overrides=PYRAMID)
    made = fuse_files(model, *pair, tmp_path / "out", "vif", {"alpha": 1.5})
    expected = model.fuse(str(pair[0]), str(pair[1]), "vif", alpha=1.5).fused[0]
    assert made.fused.shape == made.a.shape == made.b.shape == (40, 56, 3)
    assert np.abs(made.fused / 255 - expected.permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(read_raster(made.file).planes.transpose(1, 2, 0), made.fused)
    assert list(made.scores) == list(SCORES) and all(np.isfinite(value) for value in made.scores.values())
    assert [name for _, name in made.maps] == ["level.2", "level.1", "level.0"] and made.seconds > 0
    assert "colour of a" in made.color[0]
    assert [row[0] for row in score_rows(made.scores)][:2] == ["EN", "SD"]


def test_sixteen_bits_go_in_and_out(tmp_path: Path) -> None:
    files = []
    for index, name in enumerate(("a.tif", "b.tif")):
        values = np.random.default_rng(index).integers(0, 65536, (32, 40), dtype=np.uint16)
        tifffile.imwrite(tmp_path / name, values)
        files.append(tmp_path / name)
    shown, line = preview(files[0])
    assert shown.dtype == np.uint8 and "40 x 32 pixels, grey, 16 bit" in line
    made = fuse_files(load_model("average"), *files, tmp_path / "out")
    result = read_raster(made.file)
    assert result.depth == "16" and made.file.name == "a_fused.png" and not made.maps
    expected = (tifffile.imread(files[0]).astype(float) + tifffile.imread(files[1])) / 2
    assert np.abs(result.planes[0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"this is a text\n" * 9, "not"), (b"", "empty"), (None, "damaged|truncated|cannot|not")],
)
def test_a_wrong_file_is_named_without_its_folder(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = picture(tmp_path / "wrong.png", (200, 200))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3] if content is None else content)
    with pytest.raises(DataError, match=expected) as caught:
        preview(path)
    assert "wrong.png" in str(caught.value) and str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


def test_a_picture_that_is_too_large_is_refused_by_its_header(tmp_path: Path) -> None:
    set_max_pixels(1000)
    with pytest.raises(DataError, match="56x40 = 2,240 pixels"):
        preview(picture(tmp_path / "large.png"))


def test_different_sizes_are_explained_or_fitted(tmp_path: Path) -> None:
    a, b = picture(tmp_path / "a.png", (40, 56)), picture(tmp_path / "b.png", (20, 28), 1)
    model = load_model("average")
    with pytest.raises(DataError, match="a is 56 x 40 and b is 28 x 20 pixels"):
        fuse_files(model, a, b, tmp_path)
    assert fuse_files(model, a, b, tmp_path, match="a").fused.shape == (40, 56, 3)
    assert fuse_files(model, a, b, tmp_path, match="b").fused.shape == (20, 28, 3)


def test_small_pictures_have_no_scores_and_large_ones_shrunken_ones() -> None:
    tiny = torch.rand(3, 8, 8)
    values, said = scores_of(tiny, tiny, tiny)
    assert values == {} and said[0].startswith("no scores")
    large = torch.rand(3, 1, 1).expand(3, 1600, 1000)
    _, said = scores_of(large, large, large)
    assert said == ["scores are of the pictures shrunk to 968 x 1549"]


def test_what_a_model_can_be_asked() -> None:
    pyramid = steering_of(load_model("tcmoa_pyramid", overrides=PYRAMID))
    assert pyramid.tasks[:3] == ("vif", "mef", "mff") and pyramid.sliders == ("alpha", "beta") and len(pyramid.mix) == 3
    average = steering_of(load_model("average"))
    assert not average.looks_at_task and not average.sliders and not average.mix and not average.instruction
    assert steering_of(load_model("gifnet", overrides=["model.network.width=4"], allow_untrained=True)).sliders == (
        "gate_scale",
    )
    values = {"alpha": 1.0, "beta": 0.25}
    assert controls_of(pyramid, values, {"vif": 0, "mef": 1, "mff": 3}, "words") == {
        "beta": 0.25, "task_weights": {"mef": 0.25, "mff": 0.75}
    }  # fmt: skip
    assert controls_of(average, values, {"vif": 1}, "words") == {}


def test_models_stay_in_memory_and_leave_it(tmp_path: Path) -> None:
    models = Models(torch.device("cpu"), kept=1)
    first = models.get("average")
    assert models.get("average") is first
    models.get("maximum")
    assert models.get("average") is not first
    with pytest.raises(ConfigError, match="no 'avrage' in conf/model"):
        models.get("avrage")


def test_examples_are_pairs_of_one_size(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    found = examples(tmp_path / "examples")
    assert len(found) == 6 and {task for *_, task in found} == {"vif", "mef", "mff"}
    for title, a, b, _ in found:
        assert "made-up" in title and Image.open(a).size == Image.open(b).size == (480, 360)


def test_old_files_are_deleted_and_examples_stay(tmp_path: Path) -> None:
    import os

    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "examples").mkdir()
    for name in ("x/y/old.png", "x/new.png", "examples/old.png"):
        (tmp_path / name).write_bytes(b"1")
    for name in ("x/y/old.png", "examples/old.png", "x/y"):
        os.utime(tmp_path / name, (time.time() - 900, time.time() - 900))
    assert delete_older(tmp_path, 600, tmp_path / "examples") == [tmp_path / "x/y/old.png"]
    assert (tmp_path / "x/new.png").is_file() and (tmp_path / "examples/old.png").is_file()


Door = Callable[..., tuple[int, str]]


def test_mistakes_of_the_command_are_one_line(door: Door) -> None:
    pytest.importorskip("gradio")
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, text = door("demo", f"port={port}")
    assert status == 2 and f"port={port}: in use" in text and "Traceback" not in text
    status, text = door("demo", "port=null", "models=[avrage]", "examples=false")
    assert status == 2 and "no 'avrage' in conf/model" in text
    status, text = door("demo", "max_pixels=0")
    assert status == 2 and "max_pixels=0: expected a whole number of at least 1" in text


def test_without_gradio_the_extra_is_named(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gradio", None)
    status, text = door("demo")
    assert status == 2 and "pip install 'image-fusion[demo]'" in text


def test_the_pages_functions_answer_without_a_traceback(pair: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    from fusion.webpage.layout import Page, message_of

    page = Page(Models(torch.device("cpu")), ["average", "tcmoa_tiny"], tmp_path)
    wrong = tmp_path / "text.png"
    wrong.write_text("no picture <b>")
    shown: Any = page.show("a", str(wrong))
    assert (
        "class='message'" in shown[2]
        and "text.png" in shown[2]
        and str(tmp_path) not in shown[2]
        and not shown[3]["visible"]
    )
    arguments = ["average", "vif", "auto", "refuse", 1.0, 0.0, 1.0, 1.0, 0, 0, 0, "", "a | fused"]
    assert "Picture b is missing" in page.fuse(str(pair[0]), None, *arguments)[0]
    message, result, slider, scores, maps, download, views = page.fuse(str(pair[0]), str(pair[1]), *arguments)
    assert "Fused in" in message and result["visible"] and slider["value"] == (views[0], views[2])
    assert "Q_ABF" in scores and not maps["visible"] and Path(download["value"]).is_file()
    assert page.compare("a | b", views)["value"] == (views[0], views[1])
    assert "&lt;b&gt;" in message_of(DataError("<b>"))


def test_pairs_are_fused_one_at_a_time(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio")
    import threading

    from fusion.webpage import layout

    inside, most = 0, 0
    fused = fuse_files

    def counted(*arguments: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)
        try:
            return fused(*arguments)
        finally:
            inside -= 1

    monkeypatch.setattr(layout, "fuse_files", counted)
    page = layout.Page(Models(torch.device("cpu"), kept=1), ["average", "maximum"], tmp_path)
    answers: list[Any] = []

    def ask(name: str) -> None:
        rest = (name, "vif", "auto", "refuse", 1.0, 0.0, 1.0, 1.0, 0, 0, 0, "", "a | fused")
        answers.append(page.fuse(str(pair[0]), str(pair[1]), *rest)[0])

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("average", "maximum") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1 and len(answers) == 4 and all("Fused in" in answer for answer in answers)
    limits = {function.concurrency_limit for function in page.build().fns.values() if function.concurrency_id == "fuse"}
    assert limits <= {"default", 1}


def test_no_public_address_is_one_line(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    import tempfile

    from gradio import networking

    def refused(**_: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(networking, "setup_tunnel", refused)
    before = set(Path(tempfile.gettempdir()).glob("fusion-demo-*"))
    status, text = door("demo", "share=true", "port=null", "models=[average]", "examples=false")
    assert status == 2 and "share=true: Gradio's servers gave no public address" in text
    assert len(text.strip().splitlines()) == 1 and "Traceback" not in text
    assert set(Path(tempfile.gettempdir()).glob("fusion-demo-*")) <= before
