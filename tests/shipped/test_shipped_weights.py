"""The weights that come with the package: small, loadable anywhere, and useful."""

import subprocess
import sys

import pytest
import torch

from fusion import load_model
from fusion.data import SampleData
from fusion.data.files.image import read_image, write_image
from fusion.hub import SHIPPED, locate
from fusion.metrics import score
from fusion.models.base import FusionModel


@pytest.fixture(scope="module")
def model() -> FusionModel:
    return load_model("tcmoa_tiny")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of every task from photographs; the model never saw them."""
    root = tmp_path_factory.mktemp("samples")
    SampleData(root, train_pairs=1, test_pairs=2, height=224, width=288).prepare()
    scene = root / "MFIF" / "input" / "sample_01"
    folder = root / "MEFB" / "input" / "sample_01"
    found = {"mff": sorted(scene.iterdir())[:2], "mef": sorted(folder.iterdir())[:2]}
    infrared = sorted((root / "LLVIP" / "infrared" / "test").iterdir())[0]
    found["vif"] = [infrared, root / "LLVIP" / "visible" / "test" / infrared.name]
    return {task: tuple(read_image(p).pixels.float() / 255 for p in (b, a)) for task, (a, b) in found.items()}


def test_both_files_are_shipped_and_small():
    files = [SHIPPED / "mae_tiny.safetensors", SHIPPED / "tcmoa_tiny.safetensors"]
    assert [locate(file.stem) for file in files] == files
    assert sum(file.stat().st_size for file in files) < 12e6


def test_the_backbone_gives_pictures_back(pairs):
    backbone = load_model("tcmoa_tiny", overrides=["model.weights=null", "model/adapter=none"])
    for task, (a, _) in pairs.items():
        error = (backbone.fuse(a, a, task=task).fused[0] - a).square().mean()
        assert -10 * error.log10() > 35, f"{task}: {-10 * error.log10():.1f} dB"


@pytest.mark.parametrize("task", ["vif", "mef", "mff"])
def test_fused_pictures_keep_more_edges_than_the_average(model, pairs, task):
    a, b = pairs[task]
    fused = score(a, b, model.fuse(a, b, task=task).fused[0], metrics=["qabf"])["qabf"]
    average = score(a, b, (a + b) / 2, metrics=["qabf"])["qabf"]
    assert fused > average


def test_multi_focus_pictures_have_more_gradient_than_the_average_and_more_similarity(model, pairs):
    a, b = pairs["mff"]
    values = {}
    for name, picture in (("fused", model.fuse(a, b, task="mff").fused[0]), ("average", (a + b) / 2)):
        values[name] = score(a, b, picture, metrics=["ag", "ssim"])
    assert values["fused"]["ag"] > 1.01 * values["average"]["ag"]
    assert values["fused"]["ssim"] > values["average"]["ssim"]


def test_routers_of_the_tasks_differ(model, pairs):
    a, b = pairs["vif"]
    shares = [model.fuse(a, b, task=task).routings[0].weights.mean(0) for task in ("vif", "mef", "mff")]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (shares[first] - shares[second]).abs().max() > 0.02


def test_predict_on_two_folders_of_different_sizes(tmp_path):
    sizes = {"first": (96, 130), "zweites bild": (61, 47)}
    for name, size in sizes.items():
        write_image(tmp_path / "a" / f"{name}.png", torch.rand(3, *size))
        write_image(tmp_path / "b" / f"{name}.jpg", torch.rand(1, *size))
    command = [sys.executable, "-m", "fusion.predict", "model=tcmoa_tiny", "task=vif"]
    folders = [f"{key}={tmp_path / key}" for key in ("a", "b", "out")]
    done = subprocess.run([*command, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = {path.name: tuple(read_image(path).pixels.shape[1:]) for path in (tmp_path / "out").iterdir()}
    assert results == {f"{name}.png": size for name, size in sizes.items()}


def test_the_base_network_of_toar_is_shipped_and_keeps_what_is_brightest(pairs):
    file = SHIPPED / "toar_base.safetensors"
    assert locate("toar_base") == file and file.stat().st_size < 5e6
    model = load_model("toar_base")
    a, b = pairs["vif"]
    fused = model.fuse(a, b, task="vif").fused[0]
    values = score(a, b, fused, metrics=["qabf", "ag"])
    average = score(a, b, (a + b) / 2, metrics=["qabf", "ag"])
    assert values["qabf"] > average["qabf"] and values["ag"] > average["ag"]
    luma, brightest = fused.mean(0), torch.maximum(a.mean(0), b.mean(0))
    assert (luma - brightest).abs().mean() < 0.8 * ((a + b).mean(0) / 2 - brightest).abs().mean()
    plain = load_model("toar").fuse(a, b, task="vif").fused[0]
    assert torch.equal(plain, fused), "without an instruction T-OAR is its base network"
