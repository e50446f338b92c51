"""Training that is stopped and resumed sees exactly the batches that uninterrupted training sees."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from fusion.data import LLVIP, MEFB, FusionDataModule, RealMFF
from fusion.errors import ConfigError

from .conftest import Recorder

EPOCHS = 3
STEPS = 9  # three rounds of three tasks: ceil(7 LLVIP pairs / 3)


def datamodule(root: Path, **options: Any) -> FusionDataModule:
    return FusionDataModule(
        train={"l": LLVIP(root / "LLVIP"), "m": MEFB(root / "MEFB"), "r": RealMFF(root / "RealMFF")},
        val={"l": LLVIP(root / "LLVIP", "test")},
        **{"crop_size": 16, "num_workers": 0, "seed": 5, **options},
    )


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **{"max_epochs": EPOCHS, **options},
    )


def full_run(root: Path, folder: Path) -> list[Any]:
    model = Recorder()
    trainer(folder, enable_checkpointing=False).fit(model, datamodule=datamodule(root))
    assert len(model.seen) == EPOCHS * STEPS
    return model.seen


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 4, STEPS - 1, STEPS, STEPS + 1])
def test_resume_after_max_steps_continues_with_the_next_batch(
    data_dir: Path, tmp_path: Path, stop: int, num_workers: int
) -> None:
    expected = full_run(data_dir, tmp_path / "full")
    first, second = Recorder(), Recorder()
    stopped = trainer(tmp_path / "first", max_steps=stop)
    stopped.fit(first, datamodule=datamodule(data_dir, num_workers=num_workers))
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    trainer(tmp_path / "second", max_steps=2 * STEPS).fit(
        second, datamodule=datamodule(data_dir, num_workers=num_workers), ckpt_path=tmp_path / "stopped.ckpt"
    )
    assert first.seen + second.seen == expected[: 2 * STEPS]


@pytest.mark.parametrize(
    "every", [{"every_n_train_steps": 1}, {"every_n_epochs": 1}, {"save_on_train_epoch_end": True}]
)
def test_resume_from_every_checkpoint_that_lightning_writes(data_dir: Path, tmp_path: Path, every: dict) -> None:
    expected = full_run(data_dir, tmp_path / "full")
    saver = ModelCheckpoint(tmp_path / "ckpt", filename="{step}", save_top_k=-1, **every)
    trainer(tmp_path / "first", callbacks=[saver]).fit(Recorder(), datamodule=datamodule(data_dir))
    checkpoints = sorted((tmp_path / "ckpt").glob("*.ckpt"))
    assert len(checkpoints) >= EPOCHS
    for checkpoint in checkpoints:
        stop = int(checkpoint.stem.removeprefix("step="))
        model = Recorder()
        trainer(tmp_path / "second", enable_checkpointing=False).fit(
            model, datamodule=datamodule(data_dir), ckpt_path=checkpoint
        )
        assert model.seen == expected[stop:], checkpoint.name


def test_resume_when_the_loader_was_built_before_the_state_was_restored(data_dir: Path, tmp_path: Path) -> None:
    class ScheduledRecorder(Recorder):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            assert self.trainer.estimated_stepping_batches == EPOCHS * STEPS  # builds the training loader
            return super().configure_optimizers()

    expected = full_run(data_dir, tmp_path / "full")
    saver = ModelCheckpoint(tmp_path / "ckpt", filename="{step}", save_top_k=-1, every_n_train_steps=5)
    trainer(tmp_path / "first", callbacks=[saver]).fit(Recorder(), datamodule=datamodule(data_dir))
    model = ScheduledRecorder()
    trainer(tmp_path / "second").fit(model, datamodule=datamodule(data_dir), ckpt_path=tmp_path / "ckpt/step=5.ckpt")
    assert model.seen == expected[5:]


def test_shortened_epochs_go_on_where_the_last_one_stopped(data_dir: Path, tmp_path: Path) -> None:
    expected = full_run(data_dir, tmp_path / "full")
    model = Recorder()
    trainer(tmp_path / "short", limit_train_batches=5).fit(model, datamodule=datamodule(data_dir, num_workers=2))
    assert model.seen == expected[: EPOCHS * 5]


def test_reloading_the_loader_each_epoch_changes_nothing(data_dir: Path, tmp_path: Path) -> None:
    expected = full_run(data_dir, tmp_path / "full")
    model = Recorder()
    trainer(tmp_path / "reload", reload_dataloaders_every_n_epochs=1).fit(model, datamodule=datamodule(data_dir))
    assert model.seen == expected


def test_a_new_trainer_starts_from_the_beginning(data_dir: Path, tmp_path: Path) -> None:
    data = datamodule(data_dir)
    runs = [Recorder(), Recorder()]
    for model in runs:
        trainer(tmp_path / "again", max_steps=4).fit(model, datamodule=data)
    assert runs[0].seen == runs[1].seen


def test_overfitting_repeats_the_same_batches(data_dir: Path, tmp_path: Path) -> None:
    model = Recorder()
    trainer(tmp_path / "overfit", overfit_batches=2).fit(model, datamodule=datamodule(data_dir))
    assert model.seen[:2] == model.seen[2:4] == model.seen[4:]


def test_resuming_with_another_batch_size_is_refused(data_dir: Path, tmp_path: Path) -> None:
    stopped = trainer(tmp_path / "first", max_steps=2)
    stopped.fit(Recorder(), datamodule=datamodule(data_dir))
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    with pytest.raises(ConfigError, match="global_batch_size is 2 but the checkpoint was saved with 3"):
        trainer(tmp_path / "second").fit(
            Recorder(), datamodule=datamodule(data_dir, batch_size=2), ckpt_path=tmp_path / "stopped.ckpt"
        )


def test_checkpoints_load_without_running_code(data_dir: Path, tmp_path: Path) -> None:
    stopped = trainer(tmp_path / "first", max_steps=2)
    stopped.fit(Recorder(), datamodule=datamodule(data_dir))
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    state = torch.load(tmp_path / "stopped.ckpt", weights_only=True)
    assert state["FusionDataModule"]["train_loader"]["position"] == 2
