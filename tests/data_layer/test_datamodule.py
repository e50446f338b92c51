"""The data module: what reaches a model, in training, evaluation and prediction."""

import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from fusion.data import LLVIP, MEFB, MFIWHU, SCIE, TNO, FusionDataModule, RealMFF, SampleKey, collate, to_float
from fusion.errors import ConfigError, DataError

from .conftest import Recorder, Writer


def joint(root: Path, **options: Any) -> FusionDataModule:
    return FusionDataModule(
        train={
            "llvip": LLVIP(root / "LLVIP"),
            "scie": SCIE(root / "SCIE"),
            "realmff": RealMFF(root / "RealMFF"),
            "mfiwhu": MFIWHU(root / "MFI-WHU"),
            "off": None,
        },
        val={"llvip": LLVIP(root / "LLVIP", "test")},
        test={"tno": TNO(root / "TNO"), "mefb": MEFB(root / "MEFB")},
        **{"crop_size": 16, "batch_size": 2, "num_workers": 0, **options},
    )


def fitted(root: Path, **options: Any) -> FusionDataModule:
    data = joint(root, **options)
    data.setup("fit")
    return data


def test_training_batches(data_dir: Path) -> None:
    data = fitted(data_dir)
    assert data.tasks == ["vif", "mef", "mff"]
    batches = list(data.train_dataloader())
    assert len(batches) == data.steps_per_epoch == 12  # ceil(7 LLVIP pairs / 2) rounds of three tasks
    assert [batch["task"] for batch in batches] == ["vif", "mef", "mff"] * 4
    for batch in batches:
        assert batch["a"].shape == batch["b"].shape == (2, 3, 16, 16)
        assert batch["a"].dtype == torch.uint8
        assert len(batch["name"]) == len(batch["dataset"]) == len(batch["a_is_gray"]) == 2
        assert all(gray == (batch["task"] == "vif") for gray in batch["b_is_gray"])
    mff = {name for batch in batches if batch["task"] == "mff" for name in batch["dataset"]}
    assert mff == {"RealMFF", "MFIWHU"}


def test_images_become_float_only_once(data_dir: Path) -> None:
    batch = next(iter(fitted(data_dir).train_dataloader()))
    floats = to_float(batch)
    assert floats["a"].dtype == torch.float32
    assert torch.equal((floats["a"] * 255).round().to(torch.uint8), batch["a"])
    assert torch.equal(to_float(floats)["a"], floats["a"])
    assert batch["a"].dtype == torch.uint8


def test_no_more_processes_than_processors(data_dir: Path) -> None:
    assert 1 <= fitted(data_dir, num_workers=4096).train_dataloader().num_workers < 4096


def test_workers_do_not_change_the_data(data_dir: Path) -> None:
    alone = list(fitted(data_dir).train_dataloader())
    helped = list(fitted(data_dir, num_workers=2).train_dataloader())
    assert [batch["name"] for batch in alone] == [batch["name"] for batch in helped]
    assert all(torch.equal(x["a"], y["a"]) and torch.equal(x["b"], y["b"]) for x, y in zip(alone, helped, strict=True))


def test_epochs_continue_and_differ(data_dir: Path) -> None:
    loader = fitted(data_dir).train_dataloader()
    first, second = list(loader), list(loader)
    assert any(not torch.equal(x["a"], y["a"]) for x, y in zip(first, second, strict=True))
    again = fitted(data_dir).train_dataloader()
    again.load_state_dict({"position": len(first)})
    assert [batch["name"] for batch in again] == [batch["name"] for batch in second]


def test_the_crop_follows_the_task(data_dir: Path) -> None:
    data = fitted(
        data_dir, scale={"vif": [0.999, 1.0], "mef": [0.05, 0.06]}, ratio=[4 / 3, 4 / 3], crop_size=[24, 32], hflip=0
    )
    spread = {"vif": [], "mef": []}
    for batch in data.train_dataloader():
        for i, name in enumerate(batch["name"]):
            if batch["task"] in spread:
                dataset = data.parts["train"]["llvip" if batch["task"] == "vif" else "scie"]
                whole = next(dataset.load(j)["a"] for j in range(len(dataset)) if dataset.pairs[j].name == name)
                spread[batch["task"]].append((batch["a"][i].int() - whole.int()).abs().float().mean())
    assert max(spread["vif"]) < 3  # nearly the whole picture
    assert min(spread["mef"]) > 10  # a small part of it


def test_evaluation_is_full_size_and_in_order(data_dir: Path) -> None:
    data = joint(data_dir)
    data.setup("test")
    batches = list(data.test_dataloader())
    assert [batch["name"][0] for batch in batches] == ["0", "1", "2", "3", *(f"scene{i}" for i in range(4))]
    assert [batch["task"] for batch in batches] == ["vif"] * 4 + ["mef"] * 4
    assert all(batch["a"].shape == (1, 3, 24, 32) for batch in batches)
    assert [batch["name"] for batch in data.predict_dataloader()] == [batch["name"] for batch in batches]


def test_batched_evaluation_needs_one_size(data_dir: Path, write: Writer) -> None:
    write(data_dir / "TNO/vi/1.png", height=30)
    write(data_dir / "TNO/ir/1.png", height=30)
    data = joint(data_dir, eval_batch_size=4)
    data.setup("test")
    with pytest.raises(DataError, match=r"one size \(0 32x24, 1 32x30, .*eval_batch_size=1"):
        list(data.test_dataloader())
    resized = joint(data_dir, eval_batch_size=4, eval_resize=[16, 16])
    resized.setup("test")
    assert [len(batch["name"]) for batch in resized.test_dataloader()] == [4, 4]


def test_validation_crop_leaves_the_test_alone(data_dir: Path) -> None:
    data = joint(data_dir, val_crop=10, eval_multiple=5)
    data.setup()
    assert next(iter(data.val_dataloader()))["a"].shape == (1, 3, 10, 10)
    assert next(iter(data.test_dataloader()))["a"].shape == (1, 3, 20, 30)


def test_only_the_data_of_a_stage_is_opened(data_dir: Path) -> None:
    data = FusionDataModule(
        train={"gone": LLVIP(data_dir / "gone")}, test={"tno": TNO(data_dir / "TNO")}, num_workers=0
    )
    data.setup("test")
    assert len(list(data.test_dataloader())) == 4
    with pytest.raises(DataError, match="LLVIP: .*no such folder"):
        data.setup("fit")
    with pytest.raises(ConfigError, match="data.train: no data set for stage 'fit'"):
        FusionDataModule(test={"tno": TNO(data_dir / "TNO")}).setup("fit")


def test_references_are_kept_where_all_samples_have_them(data_dir: Path) -> None:
    real = RealMFF(data_dir / "RealMFF")
    assert collate([real[0], real[1]])["reference"].shape == (2, 3, 24, 32)
    assert "reference" not in collate([real[0], MFIWHU(data_dir / "MFI-WHU")[0]])


def test_describe(data_dir: Path) -> None:
    rows = joint(data_dir).describe()
    assert [(row["part"], row["set"], row["task"], row["split"], row["pairs"]) for row in rows] == [
        ("train", "LLVIP", "vif", "train", 7),
        ("train", "SCIE", "mef", "all", 4),
        ("train", "RealMFF", "mff", "all", 4),
        ("train", "MFIWHU", "mff", "all", 4),
        ("val", "LLVIP", "vif", "test", 3),
        ("test", "TNO", "vif", "all", 4),
        ("test", "MEFB", "mef", "all", 4),
    ]


def test_order_of_tasks(data_dir: Path) -> None:
    data = fitted(data_dir, tasks=["mff", "vif"])
    assert [batch["task"] for batch in data.train_dataloader()][:4] == ["mff", "vif", "mff", "vif"]
    with pytest.raises(ConfigError, match="data.tasks: no training data for 'medical', only for vif, mef, mff"):
        joint(data_dir, tasks=["vif", "medical"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch_by": "viff"}, "data.epoch_by=viff: expected one of vif, mef, mff, longest, shortest"),
        ({"scale": {"vi": [0.5, 1]}}, "data.scale: unknown task 'vi'"),
        ({"hflip": 2}, "hflip=2"),
    ],
)
def test_wrong_keys_are_refused_before_any_data_is_read(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FusionDataModule(train={"llvip": LLVIP(tmp_path / "nothing")}, **options)


class Stages(Recorder):
    """Also remembers what evaluation and prediction saw."""

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Record the names."""
        assert batch["a"].dtype == torch.float32 and batch["a"].min() >= 0 and batch["a"].max() <= 1
        self.seen.append((batch["task"], tuple(batch["name"]), 0.0))

    predict_step = test_step  # type: ignore[assignment]


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_trainer_evaluates_every_image_once(data_dir: Path, tmp_path: Path, stage: str) -> None:
    model = Stages()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, use_distributed_sampler=False)
    getattr(trainer, stage)(model, datamodule=joint(data_dir, num_workers=2))
    assert [names for _, names, _ in model.seen] == [(str(i),) for i in range(4)] + [(f"scene{i}",) for i in range(4)]


def test_ram_cache_is_filled_before_workers_start(data_dir: Path) -> None:
    data = FusionDataModule(train={"tno": TNO(data_dir / "TNO", cache="ram")}, crop_size=8, num_workers=2)
    data.setup("fit")
    for path in (data_dir / "TNO/vi").iterdir():
        path.unlink()
    assert len(list(data.train_dataloader())) == data.steps_per_epoch == 2


def test_preparation_runs_first(data_dir: Path) -> None:
    class Late:
        def prepare(self) -> None:
            (data_dir / "elsewhere").rename(data_dir / "TNO")

    (data_dir / "TNO").rename(data_dir / "elsewhere")
    data = FusionDataModule(test={"tno": TNO(data_dir / "TNO")}, prepare=Late())
    data.prepare_data()
    data.setup("test")
    assert data.describe()[0]["pairs"] == 4


def test_loaders_can_be_sent_to_spawned_workers(data_dir: Path) -> None:
    data = fitted(data_dir, vflip=0.5, rot90=True)
    copy = pickle.loads(pickle.dumps(data.train_dataloader().dataset))
    key = SampleKey(3, 17)
    assert torch.equal(copy[key]["a"], data.train_dataloader().dataset[key]["a"])
