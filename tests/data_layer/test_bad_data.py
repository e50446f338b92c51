"""What every data set answers to data as people really have it. Pictures of unusual kinds are in test_image.py."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.data import (
    FLIR,
    FMB,
    LLVIP,
    M3FD,
    MEFB,
    MFIF,
    MFIFB,
    MFIWHU,
    MSRS,
    RGBNIR,
    SCIE,
    TNO,
    VIFB,
    VT5000,
    FocusQuadruples,
    Folders,
    HarvardMedical,
    PairDataset,
    PanSharpening,
    RealMFF,
    RoadScene,
)
from fusion.errors import DataError

from .conftest import picture

Make = Callable[..., PairDataset]
FOLDERS: dict[type[PairDataset], str] = {
    FLIR: "FLIR", FMB: "FMB", LLVIP: "LLVIP", M3FD: "M3FD", MEFB: "MEFB", MFIF: "MFIF", MFIFB: "MFIFB",
    MFIWHU: "MFI-WHU", MSRS: "MSRS", RGBNIR: "nirscene1", SCIE: "SCIE", TNO: "TNO", VIFB: "VIFB", VT5000: "VT5000",
    FocusQuadruples: "GIFNet", HarvardMedical: "Harvard", PanSharpening: "QuickBird", RealMFF: "RealMFF",
    RoadScene: "RoadScene",
}  # fmt: skip


def opener(cls: type[PairDataset]) -> Make:
    def make(root: Path, **options: object) -> PairDataset:
        return cls(root / FOLDERS[cls], **options)  # type: ignore[arg-type]

    return make


def folders(root: Path, **options: object) -> PairDataset:
    return Folders(root / "RoadScene/crop_LR_visible", root / "RoadScene/cropinfrared", **options)  # type: ignore[arg-type]


SETS: dict[str, Make] = {**{cls.__name__: opener(cls) for cls in FOLDERS}, "Folders": folders}
every_set = pytest.mark.parametrize("make", SETS.values(), ids=SETS)


@every_set
def test_a_missing_folder(data_dir: Path, make: Make) -> None:
    dataset = make(data_dir)
    shutil.rmtree(dataset.root if isinstance(dataset, MEFB | MFIF | MFIFB | RGBNIR) else dataset.pairs[0].b.parent)
    with pytest.raises(DataError, match=r"(?s)no such folder.*Expected layout:") as error:
        len(make(data_dir))
    assert dataset.layout in str(error.value)


@every_set
def test_a_missing_half(data_dir: Path, make: Make) -> None:
    lone = make(data_dir).pairs[-1]
    lone.b.unlink()
    with pytest.raises(DataError, match="allow_unpaired=true") as error:
        len(make(data_dir))
    assert lone.a.name in str(error.value) or lone.a.parent.name in str(error.value)  # a scene is named by its folder
    if not isinstance(make(data_dir), FLIR):  # its list asks for every name
        with pytest.warns(UserWarning, match="using the pairs only"):
            assert lone.name not in [pair.name for pair in make(data_dir, allow_unpaired=True).pairs]


@every_set
def test_an_empty_folder(data_dir: Path, make: Make) -> None:
    dataset = make(data_dir)
    for folder in {pair.b.parent for pair in dataset.pairs}:
        for path in folder.iterdir():
            path.unlink()
    with pytest.raises(DataError, match="no images|lack SCENE"):
        len(make(data_dir))


@every_set
def test_a_truncated_image(data_dir: Path, make: Make) -> None:
    pair = make(data_dir).pairs[0]
    pair.a.write_bytes(pair.a.read_bytes()[:100])
    with pytest.raises(DataError) as error:
        make(data_dir).load(0)
    assert str(pair.a) in str(error.value) and "\n" not in str(error.value)


@every_set
def test_a_pixel_too_many(data_dir: Path, make: Make) -> None:
    pair = make(data_dir).pairs[0]
    Image.fromarray(picture(9, height=24, width=33)).save(pair.b)
    with pytest.raises(DataError, match="33x24.*match_size"):
        make(data_dir).load(0)
    assert make(data_dir, match_size="a").load(0)["b"].shape == (3, 24, 32)


@every_set
def test_names_in_any_script(data_dir: Path, make: Make) -> None:
    dataset = make(data_dir)
    old = re.sub("(_RGB|_rgb|_A|_B)$", "", dataset.pairs[0].a.stem)
    composed, decomposed = "w\u00fcst 夜", "wu\u0308st 夜"
    for path in sorted(dataset.root.rglob("*"), key=lambda path: -len(path.parts)):
        if path.stem == old or path.stem.startswith(f"{old}_"):
            a_file = path == dataset.pairs[0].a  # file systems and archives write accents in two ways
            path.rename(path.with_name(path.name.replace(old, decomposed if a_file else composed, 1)))
        elif path.suffix == ".txt":
            path.write_text(path.read_text().replace(old, decomposed), encoding="utf-8")
    again = make(data_dir)
    assert len(again) == len(dataset)
    found = [i for i, pair in enumerate(again.pairs) if composed in pair.name]
    assert found and all(again.load(i)["a"].shape == (3, 24, 32) for i in found)
    assert again.load(found[0]).keys() == again.load(len(again) - 1).keys()  # labels are found too


KINDS: dict[str, Callable[[np.ndarray], Image.Image]] = {
    "gray": lambda rgb: Image.fromarray(rgb[..., 0]),
    "16 bit": lambda rgb: Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
    "palette": lambda rgb: Image.fromarray(rgb).quantize(256),
    "RGBA": lambda rgb: Image.fromarray(np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])),
    "gray with alpha": lambda rgb: Image.fromarray(np.dstack([rgb[..., 0], rgb[..., 0]]), "LA"),
}


@every_set
@pytest.mark.parametrize("kind", KINDS)
def test_unusual_pictures_are_read(data_dir: Path, make: Make, kind: str) -> None:
    pair = make(data_dir).pairs[0]
    image = KINDS[kind](picture(5))
    image.save(pair.a, format="PNG")  # whatever the ending says
    colors = image.convert("RGB") if kind in ("palette", "RGBA") else Image.fromarray(picture(5)[..., 0]).convert("RGB")
    expected = torch.from_numpy(np.array(colors)).permute(2, 0, 1)
    if isinstance(make(data_dir), PanSharpening):  # one band of any picture
        expected = expected[:1].expand(3, -1, -1)
    assert torch.equal(make(data_dir).load(0)["a"], expected)
