"""Medical, near-infrared and multispectral images, and the rules that pair them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.data import (
    LLVIP,
    MEFB,
    MFIF,
    MFIFB,
    RGBNIR,
    TNO,
    VIFB,
    Folders,
    HarvardMedical,
    PairDataset,
    PanSharpening,
    RoadScene,
    read_image,
)
from fusion.data.files.pairs import by_number, find_folder, pair_endings
from fusion.errors import ConfigError, DataError

from .conftest import Writer, picture


def test_modalities_of_the_atlas(data_dir: Path, write: Writer) -> None:
    for split, gray in (("PET-MRI", False), ("SPECT-MRI", False), ("CT-MRI", True)):
        sample = HarvardMedical(data_dir / "Harvard", split)[0]
        assert (sample["a_is_gray"], sample["b_is_gray"], sample["task"]) == (True, gray, "vif")
    for kind in ("MRI", "PET"):
        write(data_dir / f"Harvard/PET-MRI/test/{kind}/9.png", 1)
    assert [pair.name for pair in HarvardMedical(data_dir / "Harvard", part="test").pairs] == ["9"]
    (data_dir / "Harvard/CT-MRI").rename(data_dir / "Harvard/mri-ct")
    assert len(HarvardMedical(data_dir / "Harvard", "CT-MRI")) == 3
    assert HarvardMedical(data_dir / "Harvard", task="mff")[0]["task"] == "mff"
    with pytest.raises(ConfigError, match="part=val, expected train, test or null"):
        HarvardMedical(data_dir / "Harvard", part="val")


def test_scenes_in_visible_and_near_infrared(data_dir: Path) -> None:
    names = [pair.name for pair in RGBNIR(data_dir / "nirscene1").pairs]
    assert names == [f"{scene}_000{i}" for scene in ("country", "street") for i in range(3)]


def test_every_band_is_a_pair(data_dir: Path) -> None:
    dataset = PanSharpening(data_dir / "QuickBird")
    assert [pair.name for pair in dataset.pairs] == [f"{i}_band{band}" for i in range(2) for band in (1, 2, 3, 4)]
    bands = np.asarray(Image.open(data_dir / "QuickBird/MS/1.tif"))
    for sample, band in zip([dataset[i] for i in range(4, 8)], range(4), strict=True):
        assert np.array_equal(sample["b"][0].numpy(), bands[..., band])
        assert torch.equal(sample["a"], read_image(data_dir / "QuickBird/PAN/1.tif").pixels)
        assert sample["a_is_gray"] and sample["b_is_gray"]
    assert [pair.name for pair in PanSharpening(data_dir / "QuickBird", bands=[3]).pairs] == ["0_band3", "1_band3"]
    with pytest.raises(DataError, match=r"0\.tif: has 4 bands, band 5 was asked for"):
        PanSharpening(data_dir / "QuickBird", bands=[5])[0]


def test_bands_in_folders_of_their_own(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "vis/7.tif", channels=1, height=48, width=64)
    for band in (1, 2):
        write(tmp_path / f"{band}/7.tif", band, channels=1)
    dataset = PanSharpening(tmp_path, bands=[1, 2], match_size="a")
    assert [pair.name for pair in dataset.pairs] == ["7_band1", "7_band2"]
    assert dataset[1]["b"].shape == dataset[1]["a"].shape == (3, 48, 64)
    assert PanSharpening(tmp_path, bands=[1], match_size="b")[0]["a"].shape == (3, 24, 32)
    with pytest.raises(DataError, match="is 64x48 and .* is 32x24; set match_size=a to enlarge the bands"):
        PanSharpening(tmp_path, bands=[1])[0]


def test_eleven_bits(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 2047]], dtype=np.uint16)
    for folder in ("PAN", "1"):
        (tmp_path / folder).mkdir()
        Image.fromarray(values).save(tmp_path / folder / "x.tif")
    assert PanSharpening(tmp_path, bands=[1], peak=2047)[0]["b"][0].tolist() == [[0, 125, 255]]
    assert PanSharpening(tmp_path, bands=[1])[0]["b"][0].tolist() == [[0, 4, 8]]
    with pytest.raises(ConfigError, match="peak=0"):
        PanSharpening(tmp_path, peak=0)
    with pytest.raises(ConfigError, match=r"bands=\[0\], expected numbers from 1"):
        PanSharpening(tmp_path, bands=[0])


def test_deep_files_with_many_bands(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="Pillow reads no 16-bit files of several bands")
    values = np.stack([picture(i, channels=1).astype(np.uint16) * 8 for i in range(4)])
    for folder in ("PAN", "MS"):
        (tmp_path / folder).mkdir()
    Image.fromarray(values[0]).save(tmp_path / "PAN/x.tif")
    for layout in (values, values.transpose(1, 2, 0)):
        planes = None if layout is values else "contig"
        tifffile.imwrite(tmp_path / "MS/x.tif", layout, photometric="minisblack", planarconfig=planes)
        dataset = PanSharpening(tmp_path, peak=2040)
        for i in range(4):
            assert np.array_equal(dataset[i]["b"][0].numpy(), picture(i, channels=1))


def test_pairs_by_ending(tmp_path: Path, write: Writer) -> None:
    for name in ("one_VIS", "one_ir", "two_vis", "two_IR", "notes"):
        write(tmp_path / f"{name}.png")
    assert [pair.name for pair in pair_endings(tmp_path, "_vis", "_ir")] == ["one", "two"]
    with pytest.raises(DataError, match="no images whose names end in _rgb or _nir"):
        pair_endings(tmp_path, "_rgb", "_nir")
    (tmp_path / "two_IR.png").unlink()
    with pytest.raises(DataError, match=r"1 without a partner in .* \(two_vis\.png\)"):
        pair_endings(tmp_path, "_vis", "_ir")
    with pytest.warns(UserWarning, match="using the pairs only"):
        assert len(pair_endings(tmp_path, "_vis", "_ir", allow_unpaired=True)) == 1


def test_pairs_by_number(tmp_path: Path, write: Writer) -> None:
    for i in (1, 12):
        write(tmp_path / f"v/vis_{i:04d}.png", i)
        write(tmp_path / f"i/IR-{i}.jpg", 100 + i)
    with pytest.raises(DataError, match="not a single pair has matching names"):
        len(Folders(tmp_path / "v", tmp_path / "i", pairing="stem"))
    pairs = Folders(tmp_path / "v", tmp_path / "i", pairing="number").pairs
    assert [(pair.name, pair.a.name, pair.b.name) for pair in pairs] == [
        ("1", "vis_0001.png", "IR-1.jpg"),
        ("12", "vis_0012.png", "IR-12.jpg"),
    ]
    with pytest.raises(DataError, match="scene: no number in this file name"):
        by_number("scene")
    with pytest.raises(ConfigError, match="pairing=names: unknown, expected one of auto, stem, number"):
        Folders(tmp_path / "v", tmp_path / "i", pairing="names")


def test_folders_are_found_whatever_their_case(tmp_path: Path) -> None:
    (tmp_path / "VIS").mkdir()
    assert find_folder(tmp_path, "Visible", "vis") == tmp_path / "VIS"
    assert find_folder(tmp_path, "Infrared", "ir") == tmp_path / "Infrared"


REAL: dict[str, type[PairDataset]] = {
    cls.__name__: cls for cls in (LLVIP, RoadScene, TNO, VIFB, MEFB, MFIF, MFIFB)
}  # fmt: skip


@pytest.mark.skipif("FUSION_REFERENCE_DIR" not in os.environ, reason="needs the data sets themselves")
@pytest.mark.parametrize("name", REAL)
def test_real_images_load_as_they_are(name: str) -> None:
    dataset = REAL[name](Path(os.environ["FUSION_REFERENCE_DIR"]) / "data" / name)
    assert len(dataset) >= 10
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample["a"].shape == sample["b"].shape and min(sample["a"].shape[1:]) >= 100
        assert float(sample["a"].float().std()) > 1
