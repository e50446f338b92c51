"""How many processes a trainer configuration means, and who starts them."""

from typing import Any

import pytest
import torch

from fusion.errors import ConfigError
from fusion.job.launch import launch, launched, process_count


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(key, raising=False)


@pytest.mark.parametrize(
    ("trainer", "gpus", "expected"),
    [
        ({"accelerator": "auto", "devices": 1}, 4, 1),
        ({"accelerator": "auto", "devices": "auto"}, 4, 4),
        ({"accelerator": "auto", "devices": "auto"}, 0, 1),
        ({"accelerator": "gpu", "devices": -1}, 3, 3),
        ({"accelerator": "gpu", "devices": [0, 2]}, 4, 2),
        ({"accelerator": "gpu", "devices": "0,2,3"}, 4, 3),
        ({"accelerator": "gpu", "devices": "2"}, 4, 2),
        ({"accelerator": "cpu", "devices": 2}, 4, 2),
        ({"accelerator": "cpu", "devices": "auto"}, 4, 1),
    ],
)
def test_process_count(monkeypatch: pytest.MonkeyPatch, trainer: dict[str, Any], gpus: int, expected: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert process_count(trainer) == expected


def test_more_gpus_than_there_are_and_several_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="has 1 GPU"):
        process_count({"accelerator": "gpu", "devices": 2})
    with pytest.raises(ConfigError, match="torchrun or srun"):
        process_count({"accelerator": "cpu", "devices": 2, "num_nodes": 2})
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert process_count({"accelerator": "cpu", "devices": 2, "num_nodes": 2}) == 2


def test_launched_by(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not launched()
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")  # an interactive allocation
    assert not launched()
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert launched()


def test_without_a_command_line_there_is_nothing_to_repeat(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="command line"):
        launch("fusion.train", 2, {"accelerator": "cpu", "devices": 2}, tmp_path)
