"""Where depth comes from: planes, imagined scenes, folders of maps, and a model that another package brings."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.data import DepthFolder, DepthMaps, DepthModel, DepthPlane, Images, ImaginedDepth
from fusion.data.synthesis.depth import read_depth
from fusion.errors import ConfigError, DataError

from .conftest import Writer

PHOTO = torch.zeros(3, 20, 30, dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_planes() -> None:
    flat = DepthPlane()(Path("x"), PHOTO, generator())
    assert flat.shape == (20, 30) and float(flat[0].max()) == 0 and float(flat[-1].min()) == 1
    assert bool((flat.diff(dim=0) > 0).all())
    tilted = [DepthPlane(0.5)(Path("x"), PHOTO, generator(seed)) for seed in (1, 2)]
    assert not torch.equal(*tilted) and float(tilted[0].min()) == 0 and float(tilted[0].max()) == 1


def test_imagined_scenes_fill_the_range() -> None:
    scenes = [ImaginedDepth(16)(Path("x"), PHOTO, generator(seed)) for seed in range(4)]
    assert all(s.shape == (20, 30) and float(s.min()) == 0 and float(s.max()) == pytest.approx(1) for s in scenes)
    assert len({s.numpy().tobytes() for s in scenes}) == 4


@pytest.mark.parametrize("kind", ["8 bit", "16 bit", "float", "array", "rgb"])
def test_maps_of_every_kind(tmp_path: Path, kind: str) -> None:
    ramp = np.linspace(0.25, 0.75, 30, dtype=np.float32)[None].repeat(20, 0)
    if kind == "array":
        np.save(tmp_path / "x.npy", ramp)
    elif kind == "float":
        Image.fromarray(ramp).save(tmp_path / "x.tiff")
    elif kind == "16 bit":
        Image.fromarray((ramp * 4000).astype(np.uint16)).save(tmp_path / "x.png")  # millimetres, say
    else:
        gray = Image.fromarray((ramp * 255).astype(np.uint8))
        (gray.convert("RGB") if kind == "rgb" else gray).save(tmp_path / "x.png")
    nearness = DepthFolder(tmp_path)(Path("/photos/X.jpg"), PHOTO, generator())
    expected = torch.linspace(0, 1, 30).expand(20, 30)
    assert float((nearness - expected).abs().max()) < 0.01
    inverted = DepthFolder(tmp_path, invert=True)(Path("/photos/X.jpg"), PHOTO, generator())
    assert torch.allclose(inverted, 1 - nearness)


def test_maps_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        DepthFolder(tmp_path / "none")(Path("x.png"), PHOTO, generator())
    np.save(tmp_path / "x.npy", np.full((4, 4), np.nan))
    with pytest.raises(DataError, match=r"x\.npy: expected a depth map \(H, W\) of finite numbers"):
        read_depth(tmp_path / "x.npy")
    (tmp_path / "y.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"y\.png: unreadable depth map"):
        read_depth(tmp_path / "y.png")


def test_a_model_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"needs the package transformers \(pip install 'fusion\[text\]'\)"):
        DepthModel()(Path("x.png"), PHOTO, generator())


def test_a_model_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipeline(task: str, **options: object) -> None:
        raise OSError("We couldn't connect\nmore lines")

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipeline=pipeline))
    with pytest.raises(ConfigError, match=r"depth model here/model: cannot be loaded \(We couldn't connect\)"):
        DepthModel("here/model")(Path("x.png"), PHOTO, generator())


def test_maps_of_a_model_are_written_and_read(tmp_path: Path, write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def pipeline(task: str, model: str, device: str, **options: object):  # type: ignore[no-untyped-def]
        assert (task, model, device) == ("depth-estimation", "some/model", "cpu")

        def estimate(image: Image.Image) -> dict[str, torch.Tensor]:
            asked.append(image.size)
            return {"predicted_depth": torch.arange(7.0).repeat(5, 1)[None]}  # models answer at their own size

        return estimate

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipeline=pipeline))
    for i in range(2):
        write(tmp_path / f"photos/{i}.jpg", i)
    maps = DepthMaps(Images(tmp_path / "photos"), DepthModel("some/model"), tmp_path / "depth")
    assert maps.prepare() == tmp_path / "depth" and asked == [(32, 24)] * 2
    maps.prepare()
    assert len(asked) == 2  # what is there is left alone
    photo = torch.zeros(3, 24, 32, dtype=torch.uint8)
    nearness = DepthFolder(tmp_path / "depth")(tmp_path / "photos/1.jpg", photo, generator())
    direct = DepthModel("some/model")(tmp_path / "photos/1.jpg", photo, generator())
    assert float((nearness - direct).abs().max()) < 1e-4
    with pytest.raises(ConfigError, match="depth_dir: not given"):
        DepthMaps(Images(tmp_path / "photos"), DepthPlane(), None).prepare()
