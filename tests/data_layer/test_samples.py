"""The sample data: complete, repeatable, informative, and never half-written."""

import json
from pathlib import Path

import pytest
import torch

from fusion.data import LLVIP, MEFB, MFIF, SCIE, RealMFF, SampleData
from fusion.data.synthesis import scenes
from fusion.data.synthesis.photographs import DISPARITY, MARKER, TEST_PHOTOS, TRAIN_PHOTOS, photo_path
from fusion.errors import DataError

pytest.importorskip("skimage", reason="the sample photographs come with scikit-image")

SMALL = {"train_pairs": 3, "test_pairs": 2, "height": 64, "width": 80}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SampleData(tmp_path_factory.mktemp("samples") / "s", **SMALL).prepare()


def test_published_layouts(root: Path) -> None:
    counts = [LLVIP(root / "LLVIP"), SCIE(root / "SCIE"), RealMFF(root / "RealMFF")]
    tests = [LLVIP(root / "LLVIP", "test"), MEFB(root / "MEFB"), MFIF(root / "MFIF")]
    assert [len(dataset) for dataset in counts + tests] == [3, 3, 3, 2, 2, 2]
    for dataset in counts + tests:
        for sample in dataset:
            assert sample["a"].shape == sample["b"].shape == (3, 64, 80)


def test_each_source_has_information_of_its_own(root: Path) -> None:
    for sample in SCIE(root / "SCIE"):
        assert sample["a"].float().mean() > 2 * sample["b"].float().mean()
        assert (sample["a"] >= 250).float().mean() > 0.05  # saturated somewhere
    for sample in RealMFF(root / "RealMFF"):
        sharp = [_detail(sample[key]) for key in ("a", "b")]
        reference = _detail(sample["reference"])
        assert max(sharp) < reference
        assert _detail_where_it_is_higher(sample) > 0.95 * reference
    for dataset in (LLVIP(root / "LLVIP"), LLVIP(root / "LLVIP", "test")):
        for sample in dataset:
            a, b = sample["a"].float().mean(0).flatten(), sample["b"].float().mean(0).flatten()
            correlation = torch.corrcoef(torch.stack([a, b]))[0, 1]
            assert correlation.abs() < 0.9
            assert b.std() > 10


def _gradient(image: torch.Tensor) -> torch.Tensor:
    gray = image.float().mean(0)
    return (gray[:-1, 1:] - gray[:-1, :-1]).abs() + (gray[1:, :-1] - gray[:-1, :-1]).abs()


def _detail(image: torch.Tensor) -> float:
    return float(_gradient(image).mean())


def _detail_where_it_is_higher(sample: dict) -> float:
    return float(torch.maximum(_gradient(sample["a"]), _gradient(sample["b"])).mean())


def test_the_seed_decides(root: Path, tmp_path: Path) -> None:
    again = SampleData(tmp_path / "again", **SMALL).prepare()
    files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((root / path).read_bytes() == (again / path).read_bytes() for path in files)
    other = SampleData(tmp_path / "other", seed=1, **SMALL).prepare()
    name = "LLVIP/visible/train/010001.jpg"
    assert (root / name).read_bytes() != (other / name).read_bytes()


def test_made_once_and_anew_when_the_recipe_changes(tmp_path: Path) -> None:
    root = tmp_path / "s"
    SampleData(root, **SMALL).prepare()
    stamp = (root / "SCIE/oe/p1_001.jpg").stat().st_mtime_ns
    SampleData(root, **SMALL).prepare()
    assert (root / "SCIE/oe/p1_001.jpg").stat().st_mtime_ns == stamp
    SampleData(root, **{**SMALL, "test_pairs": 1}).prepare()
    assert json.loads((root / MARKER).read_text())["pairs"] == [3, 1]
    assert len(list((root / "MEFB/input").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_other_peoples_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds other files"):
        SampleData(tmp_path, **SMALL).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SampleData, "_write_mff", killed)
        with pytest.raises(KeyboardInterrupt):
            SampleData(tmp_path / "s", **SMALL).prepare()
    assert not (tmp_path / "s").exists()
    SampleData(tmp_path / "s", **SMALL).prepare()
    assert len(RealMFF(tmp_path / "s/RealMFF")) == 3


def test_test_photographs_are_not_trained_on() -> None:
    for test in TEST_PHOTOS:
        for train in TRAIN_PHOTOS:
            if test.file == train.file:
                assert test.columns[0] >= train.columns[1] or test.columns[1] <= train.columns[0]


def test_a_photograph_that_is_not_there_is_named() -> None:
    assert photo_path(DISPARITY).is_file()
    with pytest.raises(DataError, match=r"nobody\.png: missing from this scikit-image"):
        photo_path("nobody.png")


def test_defocus_keeps_what_is_in_focus() -> None:
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    nearness = torch.zeros(48, 64)
    nearness[:, 32:] = 1.0
    far, near = scenes.defocus(image, nearness)
    assert torch.allclose(near[:, :, 32:], image[:, :, 32:], atol=1e-4)
    assert torch.allclose(far[:, :, :24], image[:, :, :24], atol=1e-4)
    assert far[:, :, 45:].std() < 0.3 * image.std() and near[:, :, :20].std() < 0.3 * image.std()


def test_response_curves_are_inverse() -> None:
    values = torch.linspace(0, 1, 256)
    assert torch.allclose(scenes.to_display(scenes.to_linear(values)), values, atol=1e-5)
