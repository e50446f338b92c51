"""Decoded samples on disk: the same as decoded anew, made again when anything changed, and mended when damaged."""

from pathlib import Path

import pytest
import torch

from fusion.data import FMB, LLVIP, M3FD, PanSharpening, RealMFF, SampleKey, train_transform
from fusion.data.sample import Sample
from fusion.errors import DataError

from .conftest import Writer


def equal(one: Sample, other: Sample) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


@pytest.mark.parametrize(
    ("cls", "folder"),
    [(LLVIP, "LLVIP"), (M3FD, "M3FD"), (FMB, "FMB"), (RealMFF, "RealMFF"), (PanSharpening, "QuickBird")],
)
def test_cached_samples_are_those_decoded(data_dir: Path, cls: type, folder: str) -> None:
    plain = [cls(data_dir / folder).load(i) for i in range(2)]
    first = [cls(data_dir / folder, cache="disk").load(i) for i in range(2)]
    files = list((data_dir / ".cache").rglob("*.safetensors"))
    assert len(files) == 2
    dataset = cls(data_dir / folder, cache="disk")
    stamps = [path.stat().st_mtime_ns for path in files]
    second = [dataset.load(i) for i in range(2)]
    for a, b, c in zip(plain, first, second, strict=True):
        assert equal(a, b) and equal(a, c)
    assert [path.stat().st_mtime_ns for path in files] == stamps
    crop = train_transform(8)
    assert equal(dataset.draw(1, 5, crop), cls(data_dir / folder).draw(1, 5, crop))


def test_the_cache_is_read(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = LLVIP(data_dir / "LLVIP", cache="disk", cache_dir=data_dir / "kept")
    expected = dataset.load(0)
    monkeypatch.setattr("fusion.data.dataset.read_pair", lambda *_: pytest.fail("decoded again"))
    assert equal(dataset.load(0), expected)
    assert len(list((data_dir / "kept").rglob("*.safetensors"))) == 1 and not (data_dir / ".cache").exists()


def test_changed_files_and_options_are_decoded_anew(data_dir: Path, write: Writer) -> None:
    before = M3FD(data_dir / "M3FD", cache="disk").load(0)
    assert M3FD(data_dir / "M3FD", cache="disk", resize=[12, 16]).load(0)["a"].shape == (3, 12, 16)
    assert "boxes" not in M3FD(data_dir / "M3FD", cache="disk", labels=False).load(0)
    assert M3FD(data_dir / "M3FD", cache="disk", classes=["Tree"]).load(0)["labels"].tolist() == [0]
    write(data_dir / "M3FD/Vis/00000.png", 77)
    after = M3FD(data_dir / "M3FD", cache="disk").load(0)
    assert not torch.equal(before["a"], after["a"]) and torch.equal(before["b"], after["b"])


def test_half_a_file_is_replaced(data_dir: Path) -> None:
    expected = LLVIP(data_dir / "LLVIP", cache="disk").load(0)
    (file,) = (data_dir / ".cache").rglob("*.safetensors")
    whole = file.read_bytes()
    for damaged in (whole[:50], b"", whole[:-40]):
        file.write_bytes(damaged)
        assert equal(LLVIP(data_dir / "LLVIP", cache="disk").load(0), expected)
        assert file.stat().st_size == len(whole)


def test_cached_samples_are_not_touched_by_transforms(data_dir: Path) -> None:
    dataset = LLVIP(data_dir / "LLVIP", cache="disk", transform=train_transform(16, vflip=0.5))
    whole = dataset.load(0)["a"].clone()
    for seed in range(6):
        dataset[SampleKey(0, seed)]["a"].zero_()
    assert torch.equal(dataset.load(0)["a"], whole)
    dataset.load(0)["a"].clone().zero_()


def test_a_folder_that_cannot_be_written_is_named(data_dir: Path) -> None:
    (data_dir / "occupied").write_text("")
    dataset = LLVIP(data_dir / "LLVIP", cache="disk", cache_dir=data_dir / "occupied")
    with pytest.raises(DataError, match=r"occupied.*the cache cannot be written .*cache_dir, or cache=none"):
        dataset.load(0)
