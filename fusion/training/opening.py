"""The first lines of a training or an evaluation: model, data, device and where it all goes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from fusion.errors import DataError
from fusion.training.fsdp import own_class


class Opening(Callback):
    """Prints once, when the data are there, what is about to run.

    Args:
        folder: run folder.
        name: of the model or experiment.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._said = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._say(trainer, pl_module, ("train", "val"))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._say(trainer, pl_module, ("test",))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.training:
            self._say(trainer, pl_module, ("val",))

    def _say(self, trainer: Trainer, module: LightningModule, parts: tuple[str, ...]) -> None:
        if self._said or not trainer.is_global_zero:
            return
        self._said = True
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in module.parameters() if not p.requires_grad)
        print(
            f"model {self.name} ({own_class(module).__name__}): {millions(trained)} parameters trained, {millions(frozen)} frozen"
        )
        if data := describe_data(getattr(trainer.datamodule, "parts", {}), parts):  # type: ignore[attr-defined]
            print(f"data: {data}")
        at = f", from step {trainer.global_step}" if trainer.global_step else ""
        print(f"{describe_devices(trainer)}, precision {trainer.precision}{at}")
        print(f"run folder: {self.folder}", flush=True)


def describe_data(parts: Mapping[str, Mapping[str, Any]], wanted: tuple[str, ...]) -> str:
    """Pairs by part and data set: `train llvip 12025, scie 4200 pairs, val llvip 6 pairs`."""
    found = []
    for part in wanted:
        counts = [f"{name} {_pairs(one)}" for name, one in parts.get(part, {}).items()]
        if counts:
            found.append(f"{part} {', '.join(counts)} pairs")
    return ", ".join(found)


def _pairs(dataset: Any) -> int | str:
    try:
        return len(dataset)
    except DataError:  # whoever needs it says so
        return "missing"


def describe_devices(trainer: Trainer) -> str:
    """The devices that run it."""
    device = trainer.strategy.root_device
    many = f"{trainer.world_size} processes on " if trainer.world_size > 1 else ""
    if device.type == "cuda":
        return f"on {many}{torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"on {many}the CPU, {threads} thread{'s' if threads != 1 else ''}"


def millions(count: int) -> str:
    """A number of parameters in millions, small ones in thousands."""
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"
