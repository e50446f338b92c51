"""Evaluation of the user's own files: results at their depth and in their colour, scores as they always were."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fusion
from fusion.data.files.reading import read_raster
from fusion.data.sets.folders import Folders
from fusion.metrics import score
from fusion.scoring.deep import is_eight_bit

Door = Callable[..., tuple[int, str]]
RNG = np.random.default_rng(5)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three pairs: of 8 bit, with a 16-bit infrared picture, and with colour in b alone."""
    import tifffile

    y, x = np.mgrid[:24, :30]
    colored = np.dstack([8 * x, 10 * y, 255 - 8 * x]).clip(0, 255).astype(np.uint8)
    gray = RNG.integers(0, 256, (3, 24, 30), dtype=np.uint8)
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
    Image.fromarray(RNG.integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(tmp_path / "a" / "plain.png")
    Image.fromarray(gray[0]).save(tmp_path / "b" / "plain.png")
    Image.fromarray(gray[1]).save(tmp_path / "a" / "deep.png")
    tifffile.imwrite(tmp_path / "b" / "deep.tif", gray[2].astype(np.uint16) * 256 + 3)
    Image.fromarray(gray[1]).save(tmp_path / "a" / "pet.png")
    Image.fromarray(colored).save(tmp_path / "b" / "pet.png")
    return tmp_path


def test_results_have_the_depth_and_colour_of_the_files(files: Path, door: Door) -> None:
    arguments = [
        "model=toar_base", "data=folders", f"a={files}/a", f"b={files}/b", "evaluation.metrics=[en,sd]", "baselines=[average]",
        "contact_sheet=false", "trainer.accelerator=cpu", "data.num_workers=0",
    ]  # fmt: skip
    status, text = door(
        "evaluate", *(f"+{x}" if x[:2] in ("a=", "b=") else x for x in arguments), f"run_dir={files}/run"
    )
    assert status == 0, text
    found = {path.name: read_raster(path) for path in (files / "run" / "fused").glob("*/Folders/*")}
    model_of = {path.name: path.parts[-3] for path in (files / "run" / "fused").glob("*/Folders/*")}
    assert {"plain.png", "deep.png", "pet.png"} == set(found) and len(set(model_of.values())) >= 1
    deep = next((files / "run" / "fused" / "average" / "Folders").glob("deep.*"))
    a, b = read_raster(files / "a" / "deep.png").planes, read_raster(files / "b" / "deep.tif").planes
    expected = (a / 255 + b / 65535) / 2
    assert read_raster(deep).planes.dtype == np.uint16
    assert np.abs(read_raster(deep).planes / 65535 - expected).max() < 1e-4
    assert read_raster(files / "run" / "fused" / "average" / "Folders" / "plain.png").planes.dtype == np.uint8
    own = [path for path in (files / "run" / "fused").iterdir() if path.name != "average"][0]
    pet = read_raster(own / "Folders" / "pet.png").planes.astype(int)
    assert len(pet) == 3 and (pet.max(0) - pet.min(0)).mean() > 30  # T-OAR takes the chroma of a by itself
    rows = (files / "run" / "scores.csv").read_text().splitlines()
    header = rows[0].split(",")
    plain = next(
        dict(zip(header, row.split(","), strict=True)) for row in rows if row.startswith("average") and "plain" in row
    )
    sources = [np.asarray(Image.open(files / side / "plain.png")) for side in ("a", "b")]
    fused = fusion.load_model("average").fuse(*sources).fused
    assert float(plain["sd"]) == pytest.approx(score(*sources, fused, metrics=["sd"])["sd"], rel=1e-4)


def test_bits_are_told_by_the_header(files: Path) -> None:
    import imagecodecs

    (files / "deep_rgb.png").write_bytes(imagecodecs.png_encode(np.zeros((4, 5, 3), np.uint16)))
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(files / "g.tif")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(files / "g.jpg")
    np.save(files / "n.npy", np.zeros((4, 5), np.float32))
    names = ("a/plain.png", "b/deep.tif", "deep_rgb.png", "g.tif", "g.jpg", "n.npy")
    assert [is_eight_bit(files / name) for name in names] == [True, False, False, True, True, False]


def test_pairs_of_different_shape_are_fitted_not_stretched(tmp_path: Path) -> None:
    wide, square = RNG.integers(0, 256, (20, 60, 3), dtype=np.uint8), np.full((10, 10), 77, np.uint8)
    Image.fromarray(wide).save(tmp_path / "a.png")
    Image.fromarray(square).save(tmp_path / "b.png")
    files = (tmp_path / "a.png", tmp_path / "b.png")
    with pytest.warns(UserWarning, match="covers 33 % of the other source's grid"):
        sample = Folders(*files, match_size="a")[0]
    assert sample["b"].shape == (3, 20, 60) and bool((sample["b"][:, :, 20:40] == 77).all())
    shown = sample["a"].float().mean(0).round()
    assert float((sample["b"][0, :, :20].float() - shown[:, :20]).abs().max()) <= 1 and sample["b_is_gray"]
    with pytest.warns(UserWarning, match="differ in shape"):
        stretched = Folders(*files, match_size="a", fit="stretch")[0]
    assert bool((stretched["b"] == 77).all())
    assert Folders(*files, match_size="a").cache_key() != Folders(*files, match_size="a", fit="stretch").cache_key()
