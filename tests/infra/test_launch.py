"""How many processes a trainer configuration means, and who starts them."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion.errors import ConfigError
from fusion.job.launch import ProcessesFailed, _wait, launch, launched, process_count


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


def ranks(*scripts: str) -> list[subprocess.Popen[bytes]]:
    """Shells in place of ranks."""
    return [subprocess.Popen(["sh", "-c", script]) for script in scripts]


def test_a_rank_that_is_gone_ends_the_others_and_is_told_in_one_line(tmp_path: Path) -> None:
    _wait(ranks("exit 0", "exit 0"))
    with pytest.raises(
        ProcessesFailed, match="rank 1 of this run ended with status 3; what it said is above"
    ) as failed:
        _wait(ranks("sleep 100", "exit 3"))
    assert failed.value.status == 3
    saving = f"trap 'echo saved > {tmp_path}/saved; exit 143' TERM; while true; do sleep 0.1; done"
    with pytest.raises(ProcessesFailed, match="rank 1 of this run was ended by SIGKILL.*resume="):
        _wait(ranks(saving, "sleep 0.5; kill -9 $$"))
    assert (tmp_path / "saved").is_file()  # it had its time to save


def test_the_launcher_hands_a_signal_on(tmp_path: Path) -> None:
    saving = f"trap 'echo saved > {tmp_path}/saved; exit 143' TERM; while true; do sleep 0.1; done"
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    started = ranks(saving, "sleep 100")
    timer.start()
    with pytest.raises(SystemExit) as stopped:
        _wait(started)
    assert stopped.value.code == 143 and (tmp_path / "saved").is_file()
    assert all(rank.poll() is not None for rank in started)
