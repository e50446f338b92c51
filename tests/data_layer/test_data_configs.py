"""Every data configuration composes and opens, and the door reports what it finds."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from fusion.config import check, config_dir, instantiate
from fusion.data import FusionDataModule, PairDataset
from fusion.data.__main__ import main
from fusion.data.selection import read_names
from fusion.errors import ConfigError, DataError

from .conftest import Writer

NAMES = sorted(path.stem for path in (config_dir() / "data").glob("*.yaml"))
SET_NAMES = sorted(path.stem for path in (config_dir() / "data/set").glob("*.yaml"))


def composed(name: str, root: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("data", [f"data={name}", f"paths.data_dir={root}", "seed=11", *overrides])


def add_named_scenes(root: Path, write: Writer) -> None:
    """The scenes that `tiny` names."""
    for name, scenes in (
        ("MEFB", read_names("mefb_heldout")),
        ("MFIFB", ["savic_08", "stand_05", "tsai_07", "aymaz_17", "lytro_01"]),
    ):
        for scene in scenes:
            write(root / f"{name}/input/{scene}/{scene}_A.png", 1)
            write(root / f"{name}/input/{scene}/{scene}_B.png", 2)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "samples"])
def test_configuration_composes_and_opens(data_dir: Path, write: Writer, name: str) -> None:
    add_named_scenes(data_dir, write)
    overrides = ["data.num_workers=0", "data.crop_size=16"]
    if name == "folders":
        overrides += [f"+a={data_dir}/TNO/vi", f"+b={data_dir}/TNO/ir", "+task=vif"]
    if name == "tcmoa":
        overrides += ["data.val.llvip.skip=0"]  # three test pairs here, not thousands
    cfg = composed(name, data_dir, *overrides)
    check(cfg)
    data: FusionDataModule = instantiate(cfg.data)
    data.prepare_data()
    assert data.seed == 11
    if data.parts["train"]:
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        assert batch["a"].shape[-2:] == (16, 16)
    data.setup("test")
    assert len(list(data.test_dataloader())) == sum(len(dataset) for dataset in data.parts["test"].values())


def test_samples_are_made_by_their_configuration(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="the sample photographs come with scikit-image")
    small = [
        "data.prepare.train_pairs=2",
        "data.prepare.test_pairs=2",
        "data.prepare.height=48",
        "data.prepare.width=64",
    ]
    data: FusionDataModule = instantiate(composed("samples", tmp_path, *small, "data.num_workers=0").data)
    data.prepare_data()
    data.setup()
    assert [batch["task"] for batch in data.train_dataloader()] == ["vif", "mef", "mff"]
    assert [batch["task"] for batch in data.test_dataloader()] == ["vif", "vif", "mef", "mef", "mff", "mff"]


def test_tiny_keeps_training_validation_and_test_apart(data_dir: Path, write: Writer) -> None:
    add_named_scenes(data_dir, write)
    data: FusionDataModule = instantiate(composed("tiny", data_dir).data)
    used = {
        part: {pair.a for dataset in datasets.values() for pair in dataset.pairs}
        for part, datasets in data.parts.items()
    }
    assert not used["train"] & used["val"]
    assert not used["train"] & used["test"]
    assert not used["val"] & used["test"]
    assert not any("lytro" in str(path) for path in used["train"])


def test_every_set_offers_every_option(data_dir: Path) -> None:
    import inspect

    options = set(inspect.signature(PairDataset.__init__).parameters) - {"self", "root", "split", "transform"}
    for name in SET_NAMES:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            cfg = compose("data", ["data=tno", f"+data/set@node={name}"])
        assert options <= set(cfg.node), name


def test_misspelt_keys_name_the_nearest(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'data\.batchsize'; did you mean 'data\.batch_size'"):
        check(composed("tno", data_dir, "+data.batchsize=3"))


def test_door_verifies(data_dir: Path, write: Writer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write(data_dir / "MEFB/input/scene0/scene0_A.png", 0)  # the same picture as B
    (data_dir / "MEFB/input/scene2/scene2_A.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    write(data_dir / "MEFB/input/scene3/scene3_B.JPG", 0, height=25)
    sheet = tmp_path / "out/sheet.png"
    with pytest.raises(DataError, match="2 pairs cannot be used"):
        main(composed("mefb", data_dir, f"contact_sheet={sheet}"))
    out = capsys.readouterr().out
    assert "unusable: " in out and "scene2_A.png" in out
    assert "scene3_B.JPG is 32x25 and" in out and "scene3_A.png is 32x24" in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("train", "test"))]
    assert [row[:5] + row[-1:] for row in rows] == [[p, "MEFB", "mef", "all", "4", "2"] for p in ("train", "test")]


def test_door_doubts_exchanged_exposures(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for name, value in (("oe", 20), ("ue", 200)):
        for path in (data_dir / f"SCIE/{name}").iterdir():
            Image.new("RGB", (32, 24), (value,) * 3).save(path)
    main(composed("scie", data_dir))
    assert "doubtful: SCIE: 4 pairs whose over-exposed image is the darker one: p1_000" in capsys.readouterr().out


def test_door_draws_a_contact_sheet(data_dir: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from fusion.data import read_image

    main(composed("tno", data_dir, "action=describe", f"contact_sheet={tmp_path}/out/sheet.png"))
    assert "TNO" in capsys.readouterr().out
    assert read_image(tmp_path / "out/sheet.png").pixels.shape == (3, 2 * (2 * 160 + 4), 4 * 213)


def test_door_refuses_unknown_actions(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match="action=check: expected one of verify, describe, prepare"):
        main(composed("tno", data_dir, "action=check"))
