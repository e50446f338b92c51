"""Fusing what people really have from the command line and from Python: depth, bands, colour, sizes, names, ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import fusion
from fusion.data.files.reading import read_raster
from fusion.errors import ConfigError, DataError, WeightsError

Door = Callable[..., tuple[int, str]]
RNG = np.random.default_rng(11)
RGB = RNG.integers(0, 256, (24, 30, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (24, 30), dtype=np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RGB).save("vis.png")
    Image.fromarray(GRAY).save("ir.png")
    tifffile.imwrite("thermal.tiff", (7200 + GRAY / 255 * 1016).astype(np.uint16))
    return tmp_path


def fuse(door: Door, *arguments: str, model: str = "average") -> str:
    status, text = door("predict", f"model={model}", "device=cpu", "num_workers=1", *arguments)
    assert status == 0, text
    return text


def refused(door: Door, *arguments: str, status: int = 2) -> str:
    found, text = door("predict", "model=average", "device=cpu", "num_workers=1", *arguments)
    assert found == status and "Traceback" not in text, text
    return text.strip().splitlines()[-1]


# Depth ---------------------------------------------------------------------------------------------------------------


def test_a_radiometric_picture_is_warned_about_stretched_and_kept_deep(door: Door) -> None:
    text = fuse(door, "a=vis.png", "b=thermal.tiff", "out=plain.png")
    assert "warning: thermal.tiff" in text and "range.b=minmax" in text
    assert read_raster("plain.png").planes.dtype == np.uint16
    text = fuse(door, "a=vis.png", "b=thermal.tiff", "out=o.png", "range.b=minmax")
    assert "warning" not in text
    result = read_raster("o.png").planes.astype(float)
    counts = read_raster("thermal.tiff").planes[0].astype(float)
    unit = (counts - counts.min()) / (counts.max() - counts.min())
    assert np.abs(result / 65535 - (RGB.transpose(2, 0, 1) / 255 + unit) / 2).max() < 1e-4
    fuse(door, "a=vis.png", "b=thermal.tiff", "out=o8.png", "range=minmax", "depth=8")
    assert read_raster("o8.png").planes.dtype == np.uint8
    text = fuse(door, "a=vis.png", "b=thermal.tiff", "out=o.jpg")
    assert "JPEG holds 8 bit, the result has 16 bit" in text
    assert "range.b=most" in refused(door, "a=vis.png", "b=thermal.tiff", "out=o.png", "range.b=most")


def test_deep_results_of_a_folder_take_a_format_that_holds_them(door: Door, here: Path) -> None:
    for name in ("a", "b"):
        (here / name).mkdir()
    Image.fromarray(RGB).save("a/1.jpg")
    tifffile.imwrite("b/1.tif", (GRAY.astype(np.uint16) * 257))
    Image.fromarray(RGB).save("a/2.jpg")
    Image.fromarray(GRAY).save("b/2.png")
    np.save("a/3.npy", (GRAY / 255).astype(np.float32))
    Image.fromarray(GRAY).save("b/3.png")
    fuse(door, "a=a", "b=b", "out=out")
    found = {path.name: read_raster(path).planes.dtype for path in (here / "out").iterdir()}
    assert found == {"1.png": np.uint16, "2.jpg": np.uint8, "3.npy": np.float32}
    text = fuse(door, "a=a", "b=b", "out=out", "overwrite=false")
    assert "nothing to do: all 3 results are in out already" in text


def test_multispectral_with_its_geo_reference(door: Door) -> None:
    geo = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (42113, "s", 0, "0", True)]
    pan = (300 + 4 * GRAY.astype(np.uint16)).repeat(2, 0).repeat(2, 1)
    pan[:2] = 0
    bands = 200 + 5 * RNG.integers(0, 256, (24, 30, 4), dtype=np.uint16)
    tifffile.imwrite("pan.tif", pan, extratags=geo)
    tifffile.imwrite("ms.tif", bands, photometric="rgb", extrasamples=["unspecified"])
    text = fuse(door, "a=pan.tif", "b=ms.tif", "out=o.tif", "task=pansharpening", "match_size=a", "range=[0,2047]")
    assert "4 bands are fused one by one" in text and "warning" not in text
    result = read_raster("o.tif")
    assert result.planes.shape == (4, 48, 60) and result.planes.dtype == np.uint16
    assert result.planes.max() > 600 and result.metadata.geo[0][3] == (0.5, 0.5, 0.0)
    assert np.abs(result.planes[:, 2:].mean((1, 2)) - (pan[2:].mean() + bands.mean((0, 1))) / 2).max() < 6
    fuse(door, "a=pan.tif", "b=ms.tif", "out=rgb.png", "match_size=a", "range=minmax", "bands=[3,2,1]")
    assert read_raster("rgb.png").channels == "rgb"
    fuse(door, "a=pan.tif", "b=ms.tif", "out=rgb.png", "match_size=a", "range=[0,2047]", "bands=[3,2,1]")
    assert read_raster("rgb.png").planes.max() > 20000  # a PNG is looked at: 2047 is white


def test_bands_written_as_inks(door: Door) -> None:
    tifffile.imwrite("pan.tif", GRAY)
    inks = np.dstack([RGB, GRAY])
    tifffile.imwrite("ms.tif", inks, photometric="separated", extrasamples=[])
    fuse(door, "a=pan.tif", "b=ms.tif", "out=o.tif", "task=pansharpening")
    result = read_raster("o.tif").planes.astype(float)
    assert np.abs(result - (GRAY + inks.transpose(2, 0, 1).astype(float)) / 2).max() <= 0.5


# Colour --------------------------------------------------------------------------------------------------------------


def test_pet_keeps_its_colour_on_either_side(door: Door) -> None:
    y, x = np.mgrid[:24, :30]
    pet = np.dstack([8 * x, 10 * y, 255 - 8 * x]).clip(0, 255).astype(np.uint8)
    Image.fromarray(pet).save("pet.png")
    for a, b in (("ir.png", "pet.png"), ("pet.png", "ir.png")):
        text = fuse(door, f"a={a}", f"b={b}", "out=o.png", model="toar_base")
        assert "color: auto: chroma of" in text
        result = read_raster("o.png").planes.astype(int)
        assert (result.max(0) - result.min(0)).mean() > 30
    fuse(door, "a=ir.png", "b=pet.png", "out=l.png", "color=luma", model="toar_base")
    assert read_raster("l.png").is_gray
    assert "color=grey" in refused(door, "a=ir.png", "b=pet.png", "out=l.png", "color=grey")


# Sizes ---------------------------------------------------------------------------------------------------------------


def test_sizes(door: Door) -> None:
    Image.fromarray(RNG.integers(0, 256, (40, 90), dtype=np.uint8)).save("wide.png")
    assert "1 of 1 pairs" in refused(door, "a=wide.png", "b=ir.png", "out=o.png", status=1)
    text = fuse(door, "a=wide.png", "b=ir.png", "out=o.png", "match_size=a")
    assert "b covers columns 20 to 70, rows 0 to 40 of a" in text
    assert "match_size=c" in refused(door, "a=wide.png", "b=ir.png", "out=o.png", "match_size=c")
    assert "fit=fill" in refused(door, "a=wide.png", "b=ir.png", "out=o.png", "match_size=a", "fit=fill")
    fuse(door, "a=wide.png", "b=ir.png", "out=crop.png", "match_size=a", "overlap=crop")
    assert read_raster("crop.png").size == (40, 50)


@pytest.mark.parametrize("model", ["average", "tcmoa_tiny", "toar_base"])
@pytest.mark.parametrize("size", [(1, 1), (1, 16), (3, 2), (16, 16)])
def test_tiny_pictures_work(model: str, size: tuple[int, int]) -> None:
    chance = torch.Generator().manual_seed(0)
    a, b = torch.rand(3, *size, generator=chance), torch.rand(3, *size, generator=chance)
    fused = _model(model).fuse(a, b).fused
    assert fused.shape == (1, 3, *size) and bool(torch.isfinite(fused).all())


@pytest.mark.parametrize("name", ["gifnet", "moe_fusion_saliency"])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (16, 16)])
def test_tiny_pictures_work_in_models_without_weights(name: str, size: tuple[int, int]) -> None:
    fused = _model(name).fuse(torch.rand(3, *size), torch.rand(3, *size)).fused
    assert fused.shape[-2:] == size and bool(torch.isfinite(fused).all())


_models: dict[str, Any] = {}


def _model(name: str) -> Any:
    if name not in _models:
        _models[name] = fusion.load_model(name, allow_untrained=True)
    return _models[name]


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1", "my photos (1)", "[a]{b}", "x,y", "it's", "café=2", "nul l", "true", "1e5"])
def test_paths_are_strings(door: Door, here: Path, name: str) -> None:
    for side in ("a", "b"):
        (here / side / name).mkdir(parents=True)
    Image.fromarray(RGB).save(here / "a" / name / "v.png")
    Image.fromarray(GRAY).save(here / "b" / name / "v.png")
    fuse(door, f"a=a/{name}", f"b=b/{name}", f"out=out/{name}")
    assert (here / "out" / name / "v.png").is_file()
    (here / name).mkdir(exist_ok=True)
    Image.fromarray(RGB).save(here / name / "v.png")
    fuse(door, f"a={name}", f"b=b/{name}", "out=last")
    assert (here / "last" / "v.png").is_file()


def test_results_are_named_like_a_and_keep_its_sub_folders(door: Door, here: Path) -> None:
    for day in ("mon", "tue"):
        for side in ("vis", "ir"):
            (here / side / day).mkdir(parents=True)
            Image.fromarray(GRAY).save(here / side / day / f"{side}_007.png")
    text = fuse(door, "a=vis", "b=ir", "out=vis/fused")
    assert "paired by the last number" in text
    again = fuse(door, "a=vis", "b=ir", "out=vis/fused")  # the results are no sources
    assert "[2/2]" in again
    assert sorted(p.relative_to(here / "vis" / "fused").as_posix() for p in (here / "vis" / "fused").rglob("*.png")) == [
        "mon/vis_007.png", "tue/vis_007.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("res.gif", "'.gif' cannot be written; use one of .png"),
        ("res.v2", "'.v2' cannot be written"),
        ("vis.png", "is a source"),
    ],
)
def test_what_out_cannot_be(door: Door, here: Path, out: str, said: str) -> None:
    assert said in refused(door, "a=vis.png", "b=ir.png", f"out={out}")
    assert not (here / "res.gif").exists()


def test_what_out_can_be(door: Door, here: Path) -> None:
    fuse(door, "a=vis.png", "b=ir.png", "out=res.v2/")
    fuse(door, "a=vis.png", "b=ir.png", "out=res.jp2")
    assert (here / "res.v2" / "vis.png").is_file() and read_raster("res.jp2").channels == "rgb"
    (here / "a").mkdir()
    Image.fromarray(RGB).save("a/v.png")
    (here / "b").mkdir()
    Image.fromarray(RGB).save("b/v.png")
    assert "out=o.png: a and b are folders" in refused(door, "a=a", "b=b", "out=o.png")


def test_missing_files_are_called_files(door: Door) -> None:
    assert refused(door, "a=nowhere.png", "b=ir.png", "out=o.png").endswith("a=nowhere.png: no such file.")


# Ends ----------------------------------------------------------------------------------------------------------------


def test_running_out_of_memory_ends_one_pair_only(door: Door, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusion.models.baselines import Average

    for side in ("a", "b"):
        (here / side).mkdir()
        for index, width in enumerate((10, 50, 12)):
            Image.fromarray(GRAY[:9].repeat(2, 1)[:, :width]).save(f"{side}/{index}.png")
    plain = Average.forward

    def hungry(self: Average, a: torch.Tensor, b: torch.Tensor, *rest: object, **more: object) -> object:
        if a.shape[-1] == 50:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried ..."
            )
        return plain(self, a, b, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Average, "forward", hungry)
    last = refused(door, "a=a", "b=b", "out=out", status=1)
    assert "1 of 3 pairs could not be fused: 1" in last
    assert sorted(path.name for path in (here / "out").iterdir()) == ["0.png", "2.png"]


# Silence where a word is due -----------------------------------------------------------------------------------------


def test_models_without_weights_refuse(door: Door, here: Path) -> None:
    status, text = door("predict", "model=gifnet", "a=vis.png", "b=ir.png", "out=o.png", "device=cpu")
    assert status == 2 and "GIFNet has no trained weights" in text and "github.com/AWCXV/GIFNet" in text
    assert not (here / "o.png").exists()
    with pytest.raises(WeightsError, match="nobody released weights of MoE-Fusion"):
        fusion.load_model("moe_fusion_saliency").fuse(GRAY, GRAY)
    fuse(door, "a=vis.png", "b=ir.png", "out=o.png", "allow_untrained=true", model="gifnet")


def test_controls_that_do_nothing_are_refused(door: Door) -> None:
    status, text = door("predict", "model=tcmoa_tiny", "a=vis.png", "b=ir.png", "out=o.png", "control.center=0.7")
    assert status == 2 and "control.center=0.7 has no effect" in text
    fuse(door, "a=vis.png", "b=ir.png", "out=o.png", "control.alpha=1.5", "control.center=0.7", model="tcmoa_tiny")
    fuse(door, "a=vis.png", "b=ir.png", "out=o.png", "control.alpha=1.0", model="tcmoa_tiny")


# Python --------------------------------------------------------------------------------------------------------------


def test_fuse_takes_paths_and_pillow_images_and_saves_like_predict(door: Door, here: Path) -> None:
    model = fusion.load_model("average")
    for a, b in (("vis.png", Path("thermal.tiff")), (Image.open("vis.png"), "thermal.tiff")):
        output = model.fuse(a, b, range="minmax")
        assert output.save("python.png") == Path("python.png")
        fuse(door, "a=vis.png", "b=thermal.tiff", "out=shell.png", "range=minmax")
        assert np.array_equal(read_raster("python.png").planes, read_raster("shell.png").planes)
    with pytest.warns(UserWarning, match=r"range\.b=minmax"):
        model.fuse("vis.png", "thermal.tiff")
    stretched = model.fuse("vis.png", "thermal.tiff", range={"b": "minmax"}).fused
    assert float(stretched.max()) > 0.9
    with pytest.raises(ConfigError, match="range=minmax: for files"):
        model.fuse(RGB, GRAY, range="minmax")
    deep = (RGB.astype(np.uint16) * 257, GRAY.astype(np.uint16) * 257)
    model.fuse(*deep).save("deep.tif")
    assert read_raster("deep.tif").planes.dtype == np.uint16
    model.fuse(torch.rand(2, 3, 9, 9), torch.rand(2, 3, 9, 9)).save("second.png", index=1)
    assert read_raster("second.png").planes.dtype == np.uint8
    with pytest.raises(DataError, match="a tensor beside a file"):
        model.fuse("vis.png", torch.rand(3, 24, 30))
    with pytest.raises(ConfigError, match=r"'\.gif' cannot be written"):
        output.save("x.gif")
    with pytest.warns(UserWarning, match="JPEG holds 8 bit"):
        output.save("x.jpg")


def test_list_models() -> None:
    names, trained = fusion.list_models(), fusion.list_models(trained=True)
    assert {"average", "gifnet", "moe_fusion", "tcmoa_large", "tcmoa_tiny", "toar_base"} <= set(names)
    assert not {"mae", "segformer", "faster_rcnn", "yolo"} & set(names)
    assert {"average", "tcmoa_tiny", "toar_base"} <= set(trained) and "gifnet" not in trained


# Score ---------------------------------------------------------------------------------------------------------------


def test_scoring_reads_depth_and_range_as_fusing_does(door: Door, here: Path) -> None:
    for name in ("1", "2", "3"):
        (here / name).mkdir()
    deep = RNG.integers(0, 2048, (3, 40, 40)).astype(np.uint16)
    for name, values in zip(("1", "2", "3"), deep, strict=True):
        tifffile.imwrite(f"{name}/x.tif", values)
    suite = ["suite.metrics=[psnr,en]", "suite.name=mine", "workers=1", "plot=null"]
    status, text = door("score", "a=1", "b=2", "fused=3", "out=narrow.csv", *suite)
    assert status == 0 and "range.a=minmax" in text, text
    status, text = door("score", "a=1", "b=2", "fused=3", "out=s.csv", "range=[0,2047]", *suite)
    assert status == 0 and "warning" not in text, text
    row = (here / "s.csv").read_text().splitlines()[-1].split(",")
    unit = deep.astype(float) / 2047
    mse = ((unit[0] - unit[2]) ** 2).mean() / 2 + ((unit[1] - unit[2]) ** 2).mean() / 2
    assert any(abs(float(value) - 10 * np.log10(1 / mse)) < 0.05 for value in row if value.replace(".", "").isdigit())


# Verify --------------------------------------------------------------------------------------------------------------


def test_verifying_tells_narrow_and_misaligned_pairs(door: Door, here: Path) -> None:
    chance = np.random.default_rng(0)
    canvas = np.full((140, 180), 100, np.uint8)
    for _ in range(45):
        y, x = chance.integers(0, 140), chance.integers(0, 180)
        canvas[y : y + chance.integers(6, 40), x : x + chance.integers(6, 40)] = chance.integers(0, 256)
    for side in ("1", "2"):
        (here / side).mkdir()
    view, moved = canvas[20:120, 20:160], canvas[14:114, 30:170]
    Image.fromarray(view).save("1/good.png")
    Image.fromarray(255 - view).save("2/good.png")
    Image.fromarray(view).save("1/off.png")
    Image.fromarray(255 - moved).save("2/off.png")
    Image.fromarray(view).save("1/thermal.png")
    tifffile.imwrite("2/thermal.tif", (7200 + view * 4.0).astype(np.uint16))
    status, text = door(
        "data.__main__", "action=verify", "data=folders", "data.test.folders.a=1", "data.test.folders.b=2"
    )
    assert status == 0, text
    assert "1 pairs whose images do not lie on top of each other: off by about (-10, 6) pixels" in text
    assert "1 files use little of their range: 2/thermal.tif: its values" in text
    row = next(line for line in text.splitlines() if line.startswith("test"))
    assert "(3)" in row  # three pairs with a score of alignment
