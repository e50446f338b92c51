"""Starting the processes of one run, one per device. Each job, also of a sweep, gets processes of its own.

Lightning's own launcher repeats the command line of the process; inside a sweep that would repeat the sweep.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from fusion.errors import ConfigError, FusionError

POLL = 0.1
"""Seconds between two looks at the ranks."""
GRACE = 60.0
"""Seconds that ranks have to save what they have."""


class ProcessesFailed(FusionError):
    """A rank of a run ended with an error that it has described, or was killed."""

    def __init__(self, rank: int, code: int) -> None:
        if code < 0:
            name = signal.Signals(-code).name
            super().__init__(
                f"rank {rank} of this run was ended by {name}; go on from its last checkpoint with resume="
            )
        else:
            super().__init__(f"rank {rank} of this run ended with status {code}; what it said is above")
        self.status = code if code > 0 else 1


def process_count(trainer: dict[str, Any]) -> int:
    """Processes that a trainer configuration asks for, one per device.

    Raises:
        ConfigError: several machines, without a launcher that starts the processes.
    """
    import torch

    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    uses_cuda = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    if isinstance(devices, str) and devices not in ("auto", "-1"):
        devices = [int(part) for part in devices.split(",")] if "," in devices else int(devices)
    if isinstance(devices, list):
        count = len(devices)
    elif devices in ("auto", -1, "-1", None):
        count = max(1, torch.cuda.device_count()) if uses_cuda else 1
    else:
        count = int(devices)
    if uses_cuda and count > torch.cuda.device_count():
        raise ConfigError(f"trainer.devices={devices}: this machine has {torch.cuda.device_count()} GPU(s)")
    if not uses_cuda and count > (most := max(8, 4 * (os.cpu_count() or 1))):
        raise ConfigError(f"trainer.devices={devices}: more than {most} processes would only wait for each other here")
    if int(trainer.get("num_nodes") or 1) > 1 and not launched():
        raise ConfigError("trainer.num_nodes > 1: start the processes with torchrun or srun on every machine")
    return count


def launched() -> bool:
    """Whether a launcher (torchrun, or srun with several tasks) started this process."""
    return "LOCAL_RANK" in os.environ or ("SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1)


def check_shared_folder() -> None:
    """Make sure that processes started together work in one folder: the default one is named after the time.

    Raises:
        ConfigError: several processes without a given folder.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not HydraConfig.initialized():
        return
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return  # the sweep's folder is given to all of them
    overrides = HydraConfig.get().overrides
    given = [line.split("=", 1)[0].lstrip("+") for line in [*overrides.task, *overrides.hydra]]
    if not {"run_dir", "resume", "hydra.run.dir"} & set(given):
        raise ConfigError("under torchrun all processes need one folder: add run_dir=PATH")


def launch(module: str, processes: int, trainer: dict[str, Any], folder: Path, resume: str | None = None) -> None:
    """Run this very job in `processes` processes and wait for them.

    Args:
        module: command to start, "fusion.train".
        processes: how many.
        trainer: trainer configuration, for the choice of GPUs.
        folder: run folder that all of them use.
        resume: what they continue from, where it was found for an interrupted job of a sweep.

    Raises:
        ProcessesFailed: they ended with an error.
    """
    import torch

    if not HydraConfig.initialized():
        raise ConfigError("several devices need the command line (python -m fusion.train) or torchrun")
    settings = HydraConfig.get()
    environment = dict(os.environ)
    overrides = list(settings.overrides.task)
    if resume and not any(line.lstrip("+").startswith("resume=") for line in overrides):
        overrides.append(f"++resume={_quoted(Path(resume))}")
    devices = trainer.get("devices")
    if isinstance(devices, list) and torch.cuda.is_available():
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in devices)
        overrides.append(f"++trainer.devices={processes}")
    command = [sys.executable, "-m", module]
    for source in settings.runtime.config_sources:
        if source.provider == "command-line":
            command += ["--config-dir", source.path]
        elif source.provider == "main":
            command += ["--config-path", source.path]
    command += ["--config-name", str(settings.job.config_name), *overrides]
    # Only this process keeps Hydra's files and log.
    command += [f"hydra.run.dir={_quoted(folder)}", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    environment |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(processes),
        "NODE_RANK": "0",
    }
    environment.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
    ranks = [
        subprocess.Popen(
            command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=settings.runtime.cwd
        )
        for rank in range(processes)
    ]
    _wait(ranks)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(ranks: list[subprocess.Popen[bytes]]) -> None:
    """Wait for all ranks; end the others when one ends with an error, or when this process is told to stop.

    Raises:
        ProcessesFailed: a rank ended with an error.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        while any(rank.poll() is None for rank in ranks):
            if any(rank.poll() for rank in ranks):
                break
            time.sleep(POLL)
        failed = next((number for number, rank in enumerate(ranks) if rank.poll()), None)
        if failed is not None:
            raise ProcessesFailed(failed, ranks[failed].returncode)
    finally:  # also after Ctrl-C, of which only a terminal tells the children
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)
        _end(ranks)
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupts)


def _end(ranks: list[subprocess.Popen[bytes]]) -> None:
    """SIGTERM, upon which ranks stop at the end of their step and save; after a minute SIGKILL."""
    alive = [rank for rank in ranks if rank.poll() is None]
    for rank in alive:
        rank.terminate()
    end = time.monotonic() + GRACE
    for rank in alive:
        try:
            rank.wait(timeout=max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()
            rank.wait()
