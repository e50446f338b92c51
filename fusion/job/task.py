"""One job of a command: a single run, or one of a sweep with its record, its resumption and its place on a GPU."""

import fcntl
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from fusion.errors import ConfigError, FusionError
from fusion.job.config import causes, first_line
from fusion.job.meter import clock
from fusion.job.plugins import load_plugins
from fusion.job.records import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    JobRecord,
    checkpoint_to_continue,
    job_state,
    job_value,
    set_aside,
)
from fusion.job.resuming import written_overrides
from fusion.job.schema import check_values
from fusion.job.sweep import Job, Sweep, group_of, identity

SWEEP_GROUP = "FUSION_SWEEP_GROUP"
JOB_LABEL = "FUSION_JOB_LABEL"
"""Environment of a job of a sweep, for its processes: `${sweep_name:}` and `${job_label:}` read them."""

_claimed: list[Any] = []
"""The lock file of the GPU that this process holds until it ends."""


class Task:
    """A command as Hydra calls it. Launchers send it to other processes, so it holds nothing that cannot travel.

    Attributes:
        main: what runs, given a configuration.
        name: root configuration.
        check: refuses configurations that cannot work.
        describe: one line for an error that the user can fix, None for a defect.
        error: of a single run that failed.
        sweep: the sweep that a sweeper ran.
    """

    def __init__(
        self,
        main: Callable[[DictConfig], Any],
        name: str,
        check: Callable[[DictConfig], Any] | None = None,
        describe: Callable[[BaseException], str | None] = str,
    ) -> None:
        self.main, self.name, self.check, self.describe = main, name, check, describe
        self.full_error = os.environ.get("HYDRA_FULL_ERROR")
        self.error: BaseException | None = None
        self.sweep: Sweep | None = None
        self.__name__ = name

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"error": None}

    def __call__(self, cfg: DictConfig) -> Any:
        """Run one job."""
        settings = HydraConfig.get()
        _adopt_ranks()
        try:
            check_values(cfg, self.name)
            load_plugins(OmegaConf.select(cfg, "imports"))
        except FusionError as error:
            if settings.mode == RunMode.MULTIRUN:
                raise
            self.error = error
            return None
        if OmegaConf.select(cfg, "paths") is not None:
            with open_dict(cfg):
                cfg.paths.output_dir = settings.runtime.output_dir
        if settings.mode == RunMode.MULTIRUN:
            return self._run_in_sweep(cfg, Path(settings.runtime.output_dir), written_overrides())
        try:
            with environment(HYDRA_FULL_ERROR=self.full_error, HYDRA_MAIN_MODULE=None):
                return self.main(cfg)
        except Exception as error:
            self.error = error
            return None

    def _run_in_sweep(self, cfg: DictConfig, folder: Path, overrides: list[str]) -> Any:
        record = JobRecord(folder)
        if record.data and identity(record.data.get("overrides", ())) != identity(overrides):
            raise ConfigError(f"{folder} holds another job of a sweep; give hydra.sweep.dir another folder")
        if job_state(folder) == FINISHED:  # requeued at the wrong moment
            return job_value(folder)
        job = next((job for job in self.sweep.jobs if job.name == folder.name), None) if self.sweep else None
        label = job.label if job is not None else " ".join(overrides)
        sweep_folder = self.sweep.folder if self.sweep is not None else folder.parent
        _claim_gpu(sweep_folder)
        continued = _continue(cfg, folder)
        if _first():
            print(f"\n{self._heading(job, folder, label)}{continued}", flush=True)
        record.start(overrides, label)
        try:
            with environment(
                HYDRA_FULL_ERROR=self.full_error,
                HYDRA_MAIN_MODULE=None,
                **{SWEEP_GROUP: group_of(sweep_folder), JOB_LABEL: label},
            ):
                value = self.main(cfg)
        except Exception as error:
            line = self.describe(error)
            if line is None:
                traceback.print_exception(error)
            record.end(
                FAILED, error=line or f"{type(error).__name__}: {first_line(error)}", exit=exit_status(error, line)
            )
            if self.error is None:
                self.error = error
            print(f"error: job {folder.name} ({label}): {line or first_line(error)}", file=sys.stderr, flush=True)
            raise  # the sweeper must know; the other jobs still run
        except BaseException:
            record.end(INTERRUPTED)
            raise
        record.end(FINISHED, value=value if isinstance(value, int | float) else None)
        return value

    def _heading(self, job: Job | None, folder: Path, label: str) -> str:
        if self.sweep is None or job is None:
            return f"job {folder.name}: {label}"
        left = time_left(self.sweep)
        about = f", about {clock(left)} left" if left is not None else ""
        return f"job {folder.name}: {label}   ({self.sweep.jobs.index(job) + 1} of {len(self.sweep.jobs)}{about})"


def finish_sweep(task: Task, after: Callable[[Path], Any] | None = None) -> int:
    """Say how a sweep ended: its table, the jobs that failed, what is left and how to go on.

    Args:
        task: that ran it.
        after: shows the table and the plot.

    Returns:
        Exit status: 0, or the largest of the failed jobs.
    """
    from fusion.job.sweepers import unfinished

    sweep = task.sweep
    if sweep is None:
        return 0
    states = sweep.states()
    if after is not None and states[FINISHED]:
        print()
        after(sweep.folder)
    status = 0
    failed = [(job, JobRecord(sweep.folder / job.name).data) for job in sweep.jobs if job.state == FAILED]
    if failed:
        print(f"error: {len(failed)} job(s) of this sweep failed:", file=sys.stderr)
    for job, record in failed:
        status = max(status, int(record.get("exit") or 2))
        print(f"error: job {job.name} ({job.label}): {record.get('error', 'see its log')}", file=sys.stderr)
    if left := unfinished(sweep):
        print(left)
    return status


def exit_status(error: BaseException, line: str | None) -> int:
    """1 for a defect, which has no line, what the error says itself, else 2."""
    if line is None:
        return 1
    return next((cause.status for cause in causes(error) if hasattr(cause, "status")), 2)


def time_left(sweep: Sweep) -> float | None:
    """Seconds until all jobs of a sweep are done, from the mean of the finished ones; None before the first."""
    spent, left = [], 0
    for job in sweep.jobs:
        record = JobRecord(sweep.folder / job.name).data
        if record.get("status") == FINISHED:
            spent.append(float(record.get("seconds") or 0.0))
        else:
            left += 1
    return sum(spent) / len(spent) * left / sweep.parallel if spent else None


@contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Set variables of the environment for a while; None leaves one out."""
    before = {key: os.environ.get(key) for key in values}
    try:
        _set(values)
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


def _continue(cfg: DictConfig, folder: Path) -> str:
    """Point `resume` at what an interrupted job left; make room where it left no checkpoint. Returns what to say."""
    if "resume" not in cfg or cfg.resume is not None:
        return ""
    checkpoint = checkpoint_to_continue(folder)
    if checkpoint is not None:
        with open_dict(cfg):
            cfg.resume = str(checkpoint)
        return "   goes on where it stopped"
    if _first() and set_aside(folder) is not None:
        return "   starts anew: it had no checkpoint yet"
    return ""


def _first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _adopt_ranks() -> None:
    """Let processes that srun or submitit started know their rank, as those of torchrun do."""
    if "RANK" in os.environ:
        return
    if "SUBMITIT_EXECUTOR" in os.environ:
        import submitit

        if submitit.JobEnvironment().num_tasks > 1:
            submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    elif "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        os.environ["RANK"] = os.environ["SLURM_PROCID"]


def _claim_gpu(folder: Path) -> None:
    """With jobs side by side in one machine's processes, take a GPU that no other of them holds, for good.

    Held by a lock on a file, which goes when the process does.
    """
    from torch.cuda import device_count

    launcher = str(HydraConfig.get().launcher._target_)
    count = device_count()
    if "joblib" not in launcher or count < 2 or _claimed:
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(index) for index in range(count)]
    for shared in range(len(devices) * 16):  # beyond one each, they share
        file = (folder / f".gpu{shared}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _claimed.append(file)
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[shared % len(devices)]
        return
