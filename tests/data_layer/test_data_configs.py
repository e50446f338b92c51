"""Every data configuration composes and opens, and the door reports what it finds."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from fusion.data import FusionDataModule, PairDataset
from fusion.data.__main__ import main
from fusion.data.files.selection import read_names
from fusion.errors import ConfigError, DataError
from fusion.job.config import check, config_dir, instantiate

from .conftest import Writer, write_boxes

MINIATURE = {  # what the published numbers of pairs become in sets of a few
    "tcmoa": ["data.val.llvip.skip=0"],
    "gifnet": ["data.val.llvip.skip=0"],
    "gifnet_mef": ["data.val.llvip.skip=0"],
    "gifnet_patches": ["data.val.llvip.skip=0"],
    "gifnet_no_augmentation": ["data.val.llvip.skip=0"],
    "m3fd": ["data.train.m3fd.skip=2", "data.test.m3fd.limit=2"],
    "moe_fusion_m3fd": ["data.train.m3fd.skip=2", "data.test.m3fd.limit=2"],
    "toar_stage1": ["data.train.m3fd.skip=3", "data.test.roadscene.skip=2"],
    "toar_stage2": [
        "data.train.m3fd.skip=4",
        "data.val.m3fd.skip=2",
        "data.val.m3fd.limit=2",
        "data.test.m3fd.limit=2",
        "data.train.m3fd.transform.resize=[16,16]",
        "data.train.fmb.transform.crop_size=16",
        "data.train.vt5000.transform.crop_size=16",
    ],
}
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


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("samples", "depth_maps")])
def test_configuration_composes_and_opens(data_dir: Path, write: Writer, name: str) -> None:
    add_named_scenes(data_dir, write)
    for i in range(7):
        write_boxes(data_dir / f"LLVIP/Annotations/{i:06d}.xml", [("person", (6, 5, 21, 19))])
    overrides = ["data.num_workers=0", "data.crop_size=16", f"images={data_dir}/photos", *MINIATURE.get(name, [])]
    if name == "folders":
        overrides += [f"+a={data_dir}/TNO/vi", f"+b={data_dir}/TNO/ir", "+task=vif"]
    cfg = composed(name, data_dir, *overrides)
    check(cfg)
    data: FusionDataModule = instantiate(cfg.data)
    data.prepare_data()
    assert data.seed == 11
    if data.parts["train"]:
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        assert batch["a"].shape[-2:] == (16, 16)
    if data.parts["test"]:
        data.setup("test")
        assert len(list(data.test_dataloader())) == sum(len(dataset) for dataset in data.parts["test"].values())


@pytest.mark.parametrize("name", ["m3fd", "moe_fusion_m3fd", "toar_stage1", "toar_stage2"])
def test_drawn_splits_do_not_overlap_and_stay(data_dir: Path, name: str) -> None:
    names = []
    for _ in range(2):
        data: FusionDataModule = instantiate(composed(name, data_dir, *MINIATURE[name]).data)
        sets = {part: d["m3fd"] for part, d in data.parts.items() if "m3fd" in d} or {}
        names.append({part: [pair.name for pair in dataset.pairs] for part, dataset in sets.items()})
    assert names[0] == names[1]
    chosen = [name for part in names[0].values() for name in part]
    assert len(chosen) == len(set(chosen)) >= 2


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
    assert [row[:5] + row[-1:] for row in rows] == [["test", "MEFB", "mef", "all", "4", "2"]]
    assert "doubtful: MEFB (all): 4 pairs, 100 as published" in out


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
    assert read_image(tmp_path / "out/sheet.png").pixels.shape == (3, 2 * 160 + 4, 4 * 213)


def test_door_refuses_unknown_actions(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match="action=check: expected one of verify, describe, prepare, synthesize"):
        main(composed("tno", data_dir, "action=check"))


def test_door_describes_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(composed("toar_stage2", tmp_path, "action=describe"))
    out = capsys.readouterr().out
    assert out.count(" missing ") == 7
    assert "SegMiF repository" in out and "Train/RGB/1.jpg" in out


def test_door_verifies_labels(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data_dir / "M3FD/Annotation/00002.xml").write_text("<annotation><object>")
    options = MINIATURE["m3fd"]
    with pytest.raises(DataError, match="1 pairs cannot be used"):
        main(composed("m3fd", data_dir, *options))
    out = capsys.readouterr().out
    assert "00002.xml: unreadable annotation" in out
    assert " boxes " in out


def test_door_says_when_there_is_nothing_to_prepare_or_make(
    data_dir: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(composed("tno", data_dir, "action=prepare"))
    assert "nothing to prepare" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="this data makes no pairs"):
        main(composed("tno", data_dir, "action=synthesize", f"out={tmp_path}/out"))
    with pytest.raises(ConfigError, match="out: not given"):
        main(composed("focus", data_dir, "action=synthesize", f"images={data_dir}/photos"))
    with pytest.raises(ConfigError, match="depth_dir: not given"):
        main(composed("depth_maps", data_dir, "action=prepare", f"images={data_dir}/photos"))


def test_random_choices_are_kept_beside_the_run(data_dir: Path, tmp_path: Path) -> None:
    import lightning.pytorch as pl

    from .conftest import Recorder

    options = [*MINIATURE["m3fd"], "data.num_workers=0", "data.crop_size=8", "data.rounds_per_epoch=1"]
    data: FusionDataModule = instantiate(composed("m3fd", data_dir, *options).data)
    trainer = pl.Trainer(
        default_root_dir=tmp_path / "run", max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(Recorder(), datamodule=data)
    record = tmp_path / "run/data/train.m3fd.txt"
    assert record.read_text().startswith("# M3FD all: 4 pairs drawn with skip=2 limit=None shuffle_seed=0")
    assert read_names(record) == [pair.name for pair in data.parts["train"]["m3fd"].pairs]
