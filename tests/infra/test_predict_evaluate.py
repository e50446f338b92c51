"""Fusing files and folders, scoring data sets, and models by name."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import fusion
from fusion.data.files.image import read_image, write_image
from fusion.errors import ConfigError, WeightsError
from fusion.models.baselines import Average

Door = Callable[..., Any]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Folders a and b: a color JPEG, a gray PNG, a file in a format that cannot be written; sizes differ."""
    generator = torch.Generator().manual_seed(1)
    for side, gray_too in (("a", True), ("b", True)):
        folder = tmp_path / side
        write_image(folder / "color.jpg", torch.rand(3, 21, 34, generator=generator))
        write_image(folder / "gray.png", torch.rand(1 if gray_too else 3, 17, 9, generator=generator))
        Image.fromarray(torch.randint(0, 255, (8, 12), generator=generator, dtype=torch.uint8).numpy()).save(
            folder / "old.ppm"
        )
    return tmp_path


def test_folders_give_the_same_names_and_sizes(door: Door, pairs: Path) -> None:
    done = door(
        "predict", "model=average", f"a={pairs / 'a'}", f"b={pairs / 'b'}", f"out={pairs / 'out'}", "device=cpu"
    )
    assert done.status == 0, done.err
    shapes = {path.name: (Image.open(path).size, Image.open(path).mode) for path in (pairs / "out").iterdir()}
    assert shapes == {"color.jpg": ((34, 21), "RGB"), "gray.png": ((9, 17), "L"), "old.png": ((12, 8), "L")}
    a, b, fused = (read_image(pairs / folder / "gray.png").pixels.float() for folder in ("a", "b", "out"))
    torch.testing.assert_close(fused, ((a + b) / 2), rtol=0, atol=0.51)


def test_two_files_give_one(door: Door, pairs: Path) -> None:
    a, b, out = (pairs / name for name in ("a/color.jpg", "b/color.jpg", "fused/here.png"))
    done = door("predict", "model=maximum", f"a={a}", f"b={b}", f"out={out}")
    assert done.status == 0, done.err
    expected = torch.maximum(read_image(a).pixels, read_image(b).pixels)
    assert torch.equal(read_image(out).pixels, expected)


def test_a_bad_file_does_not_lose_the_rest(door: Door, pairs: Path) -> None:
    whole = (pairs / "b" / "color.jpg").read_bytes()
    (pairs / "b" / "color.jpg").write_bytes(whole[: len(whole) // 2])
    done = door("predict", "model=average", f"a={pairs / 'a'}", f"b={pairs / 'b'}", f"out={pairs / 'out'}")
    assert done.status == 1
    assert "color.jpg" in done.err and "1 of 3 pairs" in done.err and "Traceback" not in done.err
    assert sorted(path.name for path in (pairs / "out").iterdir()) == ["gray.png", "old.png"]
    (pairs / "b" / "color.jpg").write_bytes(whole)
    before = (pairs / "out" / "gray.png").stat().st_mtime_ns
    again = door(
        "predict", "model=average", f"a={pairs / 'a'}", f"b={pairs / 'b'}", f"out={pairs / 'out'}", "overwrite=false"
    )
    assert again.status == 0 and "[1/1]" in again.out
    assert (pairs / "out" / "gray.png").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["b=a"], "is a source"),
        (["out=a"], "is a source"),
        (["format=gif"], "format=gif: expected one of keep"),
        (["task=xyz"], "task=xyz"),
        (["device=cuda:77"], "device=cuda:77"),
        (["ckpt_path=nowhere.ckpt"], "ckpt_path=nowhere.ckpt: no such file"),
        (["a=nowhere"], "nowhere"),
    ],
)
def test_mistakes_get_one_line(
    door: Door, pairs: Path, monkeypatch: pytest.MonkeyPatch, change: list[str], said: str
) -> None:
    monkeypatch.chdir(pairs)
    if change == ["b=a"]:
        change = ["b=a", "out=b", "a=b"]
    given = {key: value for key, value in (part.split("=", 1) for part in ["a=a", "b=b", "out=out", *change])}
    done = door("predict", "model=average", *(f"{key}={value}" for key, value in given.items()))
    assert done.status == 2
    assert said in done.err.strip().splitlines()[-1]
    assert not (pairs / "out").exists()


@pytest.fixture
def trained(door: Door, tiny_overrides: list[str], tmp_path: Path) -> Path:
    """A run folder of the tiny model."""
    folder = tmp_path / "trained"
    assert door("train", *tiny_overrides, f"run_dir={folder}", "trainer.max_epochs=1", "name=mine").status == 0
    return folder


def test_a_checkpoint_knows_its_model_and_controls_are_checked(door: Door, pairs: Path, trained: Path) -> None:
    places = [f"a={pairs / 'a'}", f"b={pairs / 'b'}", f"out={pairs / 'out'}", f"ckpt_path={trained}"]
    done = door("predict", *places, "control.gain=0.0", "format=png")
    assert done.status == 0, done.err
    plain = door("predict", *places, "format=png", f"out={pairs / 'plain'}")
    assert plain.status == 0, plain.err
    dark, bright = (read_image(pairs / folder / "color.png").pixels.float().mean() for folder in ("out", "plain"))
    assert dark < bright / 2
    wrong = door("predict", *places, "control.gian=1")
    assert wrong.status == 2 and "did you mean 'control.gain'?" in wrong.err


def test_evaluation_scores_every_image_once(
    door: Door, tiny_overrides: list[str], trained: Path, tmp_path: Path
) -> None:
    kept = [
        part for part in tiny_overrides if part.split("=")[0] in ("--config-dir", "data", "paths.data_dir", "trainer")
    ]
    done = door(
        "evaluate", "--config-dir", tiny_overrides[1], *kept[1:], f"ckpt_path={trained}", f"run_dir={tmp_path / 'run'}",
        "evaluation.metrics=[psnr,ssim]", "baselines=[maximum]",
    )  # fmt: skip
    assert done.status == 0, done.err
    with (tmp_path / "run" / "scores.csv").open() as file:
        scores = list(csv.DictReader(file))
    assert sorted((row["method"], row["name"]) for row in scores) == [
        (m, str(i)) for m in ("maximum", "mine") for i in range(5)
    ]
    with (tmp_path / "run" / "summary.csv").open() as file:
        (first, second) = csv.DictReader(file)
    assert (first["method"], first["pairs"], second["method"]) == ("mine", "5", "maximum")
    mean = sum(float(row["psnr"]) for row in scores if row["method"] == "mine") / 5
    assert float(first["psnr"]) == pytest.approx(mean)
    fused = sorted(
        path.relative_to(tmp_path / "run" / "fused").parts for path in (tmp_path / "run" / "fused").rglob("*.png")
    )
    assert fused == [(m, "Folders", f"{i}.png") for m in ("maximum", "mine") for i in range(5)]

    model = fusion.load_model(ckpt_path=trained)
    row = next(row for row in scores if row["method"] == "mine" and row["name"] == "2")
    data = Path(kept[2].split("=", 1)[1]) / "val"
    a, b = (read_image(data / side / "2.png").pixels for side in ("a", "b"))
    from fusion.metrics import score

    value = score(a, b, model.fuse(a, b).fused, metrics=["psnr"])["psnr"]
    assert float(row["psnr"]) == pytest.approx(value, rel=1e-4)


def test_evaluation_with_a_suite(door: Door, miniature: Path, tmp_path: Path) -> None:
    places = [f"a={miniature / 'val' / 'a'}", f"b={miniature / 'val' / 'b'}"]
    common = ["model=average", "data=folders", *(f"+{place}" for place in places), "data.num_workers=0", "trainer=cpu"]
    done = door(
        "evaluate", *common, "suite=tcmoa_mff", "baselines=[]", "save_images=false", f"run_dir={tmp_path / 'run'}"
    )
    assert done.status == 0, done.err
    header = (tmp_path / "run" / "summary.md").read_text().splitlines()[0]
    assert " ".join(header.split()).startswith("| dataset | method | pairs | NMI ↑ | Q_ncie ↑")
    assert not (tmp_path / "run" / "fused").exists()
    wrong = door("evaluate", *common, "suite=tcmoa_mf", f"run_dir={tmp_path / 'other'}")
    assert wrong.status == 2 and "did you mean 'tcmoa_mff'" in wrong.err


def test_load_model_by_name_with_overrides() -> None:
    model = fusion.load_model("average", overrides=["model.weight=0.25"])
    assert isinstance(model, Average) and model.weight == 0.25 and not model.training
    assert not GlobalHydra.instance().is_initialized()


def test_load_model_mistakes(plugin: None, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no 'averege' in conf/model; did you mean 'average'"):
        fusion.load_model("averege")
    with pytest.raises(ConfigError, match=r"did you mean 'model\.weight'"):
        fusion.load_model("average", overrides=["model.wieght=1"])
    with pytest.raises(ConfigError, match="name of a model"):
        fusion.load_model()
    with pytest.raises(WeightsError, match="holds a TinyFusion, not a Average"):
        fusion.load_model("average", ckpt_path=trained)
    with pytest.raises(WeightsError, match="not the weights of this TinyFusion: of another shape gates.vif"):
        checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
        checkpoint["state_dict"]["gates.vif"] = torch.zeros(3)
        torch.save(checkpoint, tmp_path / "changed.ckpt")
        fusion.load_model(ckpt_path=tmp_path / "changed.ckpt")
    (tmp_path / "other.pth").write_bytes(b"no pickle")
    with pytest.raises(WeightsError, match="damaged|refused"):
        fusion.load_model("average", ckpt_path=tmp_path / "other.pth")
    torch.save({"x": object}, tmp_path / "code.pth")
    with pytest.raises(WeightsError, match="refused"):
        fusion.load_model("average", ckpt_path=tmp_path / "code.pth")


def test_load_model_restores_the_trained_weights(plugin: None, trained: Path) -> None:
    model = fusion.load_model(ckpt_path=trained / "checkpoints" / "last.ckpt")
    saved = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    state = model.state_dict()
    assert all(torch.equal(state[key], saved[key]) for key in saved) and len(state) > len(saved)
