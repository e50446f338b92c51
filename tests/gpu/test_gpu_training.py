"""Trainings through `fusion.train` on the GPU: precisions, compilation, recomputation, resuming, averages, one DDP process."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Command = Callable[..., tuple[int, str]]
PLUGIN = Path(__file__).parents[1] / "infra" / "plugin" / "conf"


def arguments(pictures: Path, folder: Path, trainer: list[str], *more: str, steps: int = 2) -> list[str]:
    """A training of the tiny TC-MoA that takes a second or two."""
    return [
        "--config-dir", str(PLUGIN), "model=tcmoa_tiny", "data=miniature", f"paths.data_dir={pictures}",
        "data.crop_size=112", "data.num_workers=0", "++data.prefetch_factor=null", "logger=csv", "callbacks.images=null",
        "evaluation.metrics=[psnr]", "monitor.metric=val/psnr", *trainer, f"trainer.max_steps={steps}",
        "trainer.log_every_n_steps=1", "trainer.enable_model_summary=false", f"run_dir={folder}", *more,
    ]  # fmt: skip


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)


def assert_trained(folder: Path, steps: int) -> None:
    assert json.loads((folder / "run.json").read_text())["parts"][-1]["status"] == "finished"
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row[key]) for row in rows for key in row if key.endswith("/loss") and row[key]]
    assert len(losses) >= steps and all(torch.tensor(losses).isfinite())
    assert checkpoint(folder)["global_step"] == steps


SETTINGS = {
    "float32": ["trainer.precision=32-true"],
    "fp16": ["trainer.precision=16-mixed"],
    "bf16": ["trainer.precision=bf16-mixed"],
    "clipped fp16": ["trainer.precision=16-mixed", "trainer.gradient_clip_val=1.0"],
    "compiled": ["trainer.precision=bf16-mixed", "compile=default"],
    "CUDA graph": ["trainer.precision=bf16-mixed", "compile=reduce-overhead"],
    "recomputed": ["model.network.gradient_checkpointing=true"],
    "MLPs recomputed": ["model.network.gradient_checkpointing=mlp"],
    "stream in the type of autocast": ["model.network.stream=autocast"],
    "frozen": ["model/adapter=none", "model.network.restore=false", "model.weights=null"],
    "AdaptFormer": ["model/adapter=adaptformer", "model.network.restore=false", "model.weights=null"],
}


LONG = ("CUDA graph",)  # minutes of compilation, beside those of "compiled"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in SETTINGS]
)
def test_two_steps_of_training(
    name: str, device: str, command: Command, pictures: Path, tmp_path: Path, trainer_options: Any
) -> None:
    status, said = command("train", *arguments(pictures, tmp_path / "run", trainer_options(device), *SETTINGS[name]))
    assert status == 0, said
    assert_trained(tmp_path / "run", 2)


@pytest.mark.everywhere
def test_settings_of_trainer_gpu_train(
    device: str, command: Command, pictures: Path, tmp_path: Path, trainer_options: Any
) -> None:
    status, said = command("train", *arguments(pictures, tmp_path / "run", trainer_options(device)))
    assert status == 0, said
    assert_trained(tmp_path / "run", 2)
    saved = checkpoint(tmp_path / "run")
    assert saved["optimizer_states"][0]["param_groups"][0]["fused"] is True
    name = next(name for name in saved["callbacks"] if name.startswith("EMA"))
    assert saved["callbacks"][name]["shadow"] and all(
        value.isfinite().all() for value in saved["callbacks"][name]["shadow"].values()
    )


def test_resumed_equals_undisturbed(
    device: str, command: Command, pictures: Path, tmp_path: Path, trainer_options: Any
) -> None:
    exact = [
        *trainer_options(device),
        "trainer.precision=32-true",
        "trainer.deterministic=warn",
        "trainer.benchmark=false",
        "callbacks.ema.eval=true",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["scheduler=constant"]  # a schedule would know where the training ends
    for folder, epochs in ((whole, 2), (parts, 1)):
        status, said = command(
            "train", *arguments(pictures, folder, exact, *options, f"trainer.max_epochs={epochs}", steps=-1)
        )
        assert status == 0, said
    status, said = command("train", "--config-dir", str(PLUGIN), f"resume={parts}", "trainer.max_epochs=2")
    assert status == 0, said
    expected, got = checkpoint(whole), checkpoint(parts)
    assert expected["global_step"] == got["global_step"] == 8
    name = next(name for name in expected["callbacks"] if name.startswith("EMA"))
    for ours, theirs in (
        (got["state_dict"], expected["state_dict"]),
        (got["callbacks"][name]["shadow"], expected["callbacks"][name]["shadow"]),
        (got["callbacks"][name]["raw"], expected["callbacks"][name]["raw"]),
    ):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, atol=2e-5, rtol=1e-4, msg=key)


def test_one_ddp_process(device: str, command: Command, pictures: Path, tmp_path: Path) -> None:
    trainer = ["trainer=ddp"] if device.startswith("cuda") else ["trainer=ddp_cpu"]
    status, said = command("train", *arguments(pictures, tmp_path / "run", [*trainer, "trainer.devices=1"]))
    assert status == 0, said
    assert_trained(tmp_path / "run", 2)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("model", ["gifnet", "moe_fusion", "toar_base"])
def test_other_methods_take_a_step(
    model: str, device: str, command: Command, pictures: Path, tmp_path: Path, trainer_options: Any
) -> None:
    experiment = {"gifnet": "gifnet_short", "moe_fusion": "moe_fusion/small", "toar_base": "toar/base_small"}[model]
    quick = ["trainer.fast_dev_run=true", "trainer.accelerator=" + ("gpu" if device.startswith("cuda") else "cpu")]
    status, said = command(
        "train", f"experiment={experiment}", "trainer=gpu", *quick, f"run_dir={tmp_path / 'run'}", "logger=csv",
        "data.num_workers=0", "++data.prefetch_factor=null",
    )  # fmt: skip
    assert status == 0, said


def test_a_bad_gradient_is_left_out_without_waiting(device: str) -> None:
    from fusion.errors import FusionError
    from fusion.training.callbacks.finite_guard import FiniteGuard

    weight = torch.nn.Parameter(torch.ones(3, device=device))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    trainer = type("T", (), {"precision_plugin": None, "global_step": 0, "strategy": None})()
    guard = FiniteGuard(patience=2)
    for step, gradient in enumerate([1.0, float("nan"), 1.0, float("inf")]):
        before = weight.detach().clone()
        guard.on_train_batch_start(trainer, None, {"task": "vif", "name": [str(step)]}, step)
        weight.grad = torch.full_like(weight, gradient)
        guard.on_before_optimizer_step(trainer, None, optimizer)
        optimizer.step()
        guard.on_train_batch_end(trainer, None, {"loss": torch.ones(())}, None, step)
        assert weight.isfinite().all()
        assert torch.equal(weight, before) == (step % 2 == 1)
    guard.on_train_epoch_end(trainer, None)
    assert guard.skipped == 1
    with pytest.raises(FusionError, match="pairs a"):
        for step in range(3):
            guard.on_train_batch_start(trainer, None, {"task": "vif", "name": ["a"]}, step)
            weight.grad = torch.full_like(weight, float("nan"))
            guard.on_before_optimizer_step(trainer, None, optimizer)
            guard.on_train_batch_end(trainer, None, {"loss": torch.ones(())}, None, step)
        guard.on_train_epoch_end(trainer, None)
