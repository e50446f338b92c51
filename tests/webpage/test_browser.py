"""The page in headless Chromium: upload, fuse, move the line, read scores and messages; nothing is asked of other machines."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fusion.job.config import config_dir

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
    pytest.mark.timeout(600),
]
WAIT = 60_000
"""Milliseconds; the machine may be busy."""


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    from omegaconf import OmegaConf

    from fusion.webpage.serve import Server

    options = OmegaConf.to_container(OmegaConf.load(config_dir() / "demo.yaml"))
    assert isinstance(options, dict)
    options |= {"port": None, "models": ["tcmoa_pyramid", "average"], "max_pixels": 1_000_000, "examples": True}
    with Server(options) as running:
        yield running
    assert not running.folder.exists()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    grid = np.linspace(0, 255, 320)[None].repeat(240, 0)
    dark, bright = np.uint8(grid / 4), np.uint8(255 - grid / 2)
    made = {name: folder / f"{name}.png" for name in ("dark", "bright", "text", "cut", "huge")}
    Image.fromarray(np.stack([dark, dark, bright], 2)).save(made["dark"])
    Image.fromarray(bright).save(made["bright"])
    made["text"].write_text("this is no picture\n" * 20)
    Image.effect_noise((400, 400), 80).save(made["cut"])
    made["cut"].write_bytes(made["cut"].read_bytes()[:9000])
    Image.new("L", (2000, 1000)).save(made["huge"])
    return made


@pytest.fixture
def page(server: Any) -> Iterator[Any]:
    asked: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1240, "height": 1300})
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.address)
        page.locator("#fuse").wait_for()
        yield page
        browser.close()
    own = server.address.rstrip("/")
    assert [
        url for url in asked if not url.startswith((own, "data:", "blob:", own.replace("127.0.0.1", "localhost")))
    ] == []


def upload(page: Any, side: str, file: Path) -> None:
    page.locator(f"#file_{side} input[type=file]").set_input_files(str(file))


def fuse(page: Any, files: dict[str, Path]) -> None:
    for side, name in (("a", "dark"), ("b", "bright")):
        upload(page, side, files[name])
        page.locator(f"#facts_{side}", has_text="320 x 240 pixels").wait_for()
    page.locator("#fuse").click()
    page.locator("#message", has_text="Fused in").wait_for()
    page.locator("#scores", has_text="SSIM").wait_for()


def shot(page: Any) -> np.ndarray:
    """The slider as it looks."""
    import io

    page.wait_for_timeout(600)
    return np.asarray(Image.open(io.BytesIO(page.locator("#slider").screenshot())).convert("L"), dtype=float)


def test_two_pictures_are_fused_and_the_line_moves(page: Any, files: dict[str, Path]) -> None:
    fuse(page, files)
    scores = dict(line.split("\t")[:2] for line in page.locator("#scores table").inner_text().splitlines()[1:])
    assert {"EN", "SSIM"} <= scores.keys() and 0 < float(scores["EN"]) <= 8
    before = shot(page)
    box = page.locator("#slider .slider-wrap, #slider .image-container").first.bounding_box()
    middle, height = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle, height)
    page.mouse.down()
    page.mouse.move(middle + box["width"] * 0.3, height, steps=8)
    page.mouse.up()
    moved = shot(page)
    assert np.abs(moved - before).mean() > 1
    page.locator("#view label", has_text="a | b").click()
    page.locator("#slider", has_text="b on the right").wait_for()
    assert np.abs(shot(page) - moved).mean() > 1
    assert page.locator("#prompts img").count() > 1


def test_controls_follow_the_model(page: Any) -> None:
    assert page.locator("#control_alpha").is_visible()
    page.locator("#model input").click()
    page.locator("[role=option]", has_text="average").click()
    page.locator("#control_alpha").wait_for(state="hidden")
    assert page.locator("#task input").is_disabled()


@pytest.mark.parametrize(
    ("name", "said"), [("text", "text.png"), ("cut", "cut.png"), ("huge", "2000x1000 = 2,000,000 pixels")]
)
def test_a_wrong_file_is_answered_in_the_page(page: Any, files: dict[str, Path], name: str, said: str) -> None:
    upload(page, "a", files[name])
    page.locator("#message .message", has_text=said).wait_for()
    text = page.locator("#message").inner_text()
    assert "Traceback" not in text and "/tmp" not in text
    upload(page, "b", files["bright"])
    page.locator("#facts_b", has_text="320 x 240").wait_for()
    page.locator("#fuse").click()
    page.locator("#message .message", has_text=said).wait_for()
    assert page.locator("#result").is_hidden() or page.locator("#result").count() == 0


def test_the_result_comes_down_as_a_file(page: Any, files: dict[str, Path], tmp_path: Path) -> None:
    fuse(page, files)
    with page.expect_download() as waiting:
        page.locator("#download").click()
    waiting.value.save_as(tmp_path / "fused.png")
    assert Image.open(tmp_path / "fused.png").size == (320, 240)
