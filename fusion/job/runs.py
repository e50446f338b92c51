"""The folder of one run: what is written into it, how a run is found again, and when it may be continued."""

import json
import os
import platform
import re
import secrets
import subprocess
import sys
import time
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fusion.errors import ConfigError, WeightsError
from fusion.files import is_bomb, write_text
from fusion.job.aliases import with_present_names
from fusion.job.config import flatten
from fusion.job.recorded import check_recorded_arguments, check_recorded_overrides
from fusion.job.records import read_json
from fusion.job.resolvers import CHECKPOINTS, run_folder
from fusion.job.sweep import PLAN
from fusion.version import __version__

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONFIG = "config.yaml"
MANIFEST = "run.json"
RESULTS = "results.json"
LOCK = ".lock"

FREE_TO_CHANGE = (
    "data.val.*", "data.test.*", "data.predict.*", "*.root", "*.cache", "*num_workers", "*pin_memory",
    "*persistent_workers", "*prefetch_factor", "*limit", "*gradient_checkpointing", "model.network.stream",
)  # fmt: skip
"""Keys of `model` and `data` that do not change what a run learns: they may differ when it is resumed."""


def resume_checkpoint(resume: str | None) -> Path | None:
    """The checkpoint that `resume` (a run folder or a checkpoint) stands for.

    Raises:
        ConfigError: there is none.
    """
    if not resume:
        return None
    path = Path(resume)
    if path.suffix == ".ckpt":
        if not path.is_file():
            raise ConfigError(f"resume={resume}: no such checkpoint")
        return path
    last = path / CHECKPOINTS / "last.ckpt"
    if not last.is_file():
        if not path.is_dir():
            raise ConfigError(f"resume={resume}: no such run folder; start a new run without resume=")
        raise ConfigError(
            f"resume={resume}: no {CHECKPOINTS}/last.ckpt in it yet, so nothing to resume; start it again with run_dir={resume}"
        )
    return last


def check_links(folder: Path) -> None:
    """Refuse a run folder whose files are links: what is written into them would change files elsewhere.

    The folder itself may be a link, and so may folders in it, such as `checkpoints` on another disk, except `.hydra`.

    Raises:
        ConfigError: names the link.
    """
    for place, folders, files in os.walk(folder):
        for name in [*files, *(name for name in folders if name == ".hydra")]:
            if os.path.islink(os.path.join(place, name)):
                raise ConfigError(
                    f"{os.path.join(place, name)}: is a link, which a resumed run would write through; copy the folder with "
                    "what its links point to (cp -rL)"
                )


def resume_overrides(arguments: list[str]) -> list[str]:
    """Command-line arguments with the saved overrides of the run to resume added, where they are not given anew.

    `resume=FOLDER` alone is so enough to continue a run as it was started.

    Raises:
        ConfigError: there is no such run, or nothing in it to resume.
    """
    start = next((index for index, value in enumerate(arguments) if _is_override(arguments, index)), len(arguments))
    given = {_key(argument): argument for argument in arguments[start:]}
    resume = given.get("resume", "=").split("=", 1)[1].strip("\"'")
    if not resume or resume == "null":
        return arguments
    if plan := read_json(Path(resume) / PLAN):  # a sweep: its jobs go on
        check_links(Path(resume))
        recorded = plan.get("arguments")
        if isinstance(recorded, list):
            recorded = [line for line in recorded if not isinstance(line, str) or _key(line) not in given]
        again = check_recorded_arguments(recorded, str(Path(resume) / PLAN))
        place = arguments.index(given["resume"])
        again.append(f"hydra.sweep.dir={resume}")
        return ["-m", *arguments[:place], *again, *arguments[place + 1 :]]
    resume_checkpoint(resume)  # before Hydra makes folders
    check_links(Path(run_folder(resume, "")))
    saved = Path(run_folder(resume, "")) / MANIFEST
    manifest = _read_json(saved) if saved.is_file() else {}
    recorded = manifest.get("overrides", [])
    if isinstance(recorded, list):
        recorded = [line for line in recorded if not isinstance(line, str) or _key(line) not in given]
    kept = check_recorded_overrides(recorded, str(saved))
    return [*arguments[:start], *kept, *arguments[start:]]


def written_overrides() -> list[str]:
    """Overrides of this job as they were written, with interpolations that are not resolved; none outside of commands."""
    if not HydraConfig.initialized():
        return []
    found = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(line) for line in found] if isinstance(found, list) else []


def given_overrides() -> list[str]:
    """The job's overrides as they are recorded: what it is, not where it goes on.

    Interpolations of keys stay as they were written, for a resumed run has its own; resolvers (`${now:...}`) are not data, so
    what they gave is recorded.
    """
    if not HydraConfig.initialized():
        return []
    lines = [
        resolved if re.search(r"\$\{[^}]*:", written) else written
        for written, resolved in zip(written_overrides(), HydraConfig.get().overrides.task, strict=True)
    ]
    return [line for line in lines if _key(line) not in ("run_dir", "resume", "force_resume")]


def _is_override(arguments: list[str], index: int) -> bool:
    after_flag = index > 0 and arguments[index - 1].startswith("-") and "=" not in arguments[index - 1]
    takes_value = after_flag and arguments[index - 1] not in ("-m", "--multirun", "-r", "--run", "--resolve")
    return "=" in arguments[index] and not arguments[index].startswith("-") and not takes_value


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~").split("@", 1)[0]


def fingerprint(config: dict[str, Any]) -> dict[str, Any]:
    """Flat `model` and `data` configuration that has to stay the same over the parts of a run."""
    flat = flatten({part: config.get(part) for part in ("model", "data")})
    set_values = {key: value for key, value in flat.items() if value != {}}
    return {key: value for key, value in set_values.items() if not any(fnmatch(key, free) for free in FREE_TO_CHANGE)}


def check_resumable(checkpoint: Path, current: dict[str, Any], force: bool) -> None:
    """Refuse to continue a run with another model or other data.

    Raises:
        WeightsError: the file is not a checkpoint of this platform.
        ConfigError: keys differ and `force` is not set.
    """
    import torch

    try:
        if is_bomb(checkpoint):
            raise WeightsError(f"{checkpoint}: refused, it grows when it is unpacked")
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{checkpoint}: not a readable checkpoint ({type(error).__name__})") from error
    _check_parts(content, checkpoint)
    before = with_present_names((content.get("fusion") or {}).get("fingerprint"))
    if not before or force:
        return
    differing = sorted(key for key in before.keys() | current.keys() if before.get(key) != current.get(key))
    if differing:
        shown = ", ".join(f"{key} (was {before.get(key)}, now {current.get(key)})" for key in differing[:8])
        more = f" and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise ConfigError(
            f"cannot resume {checkpoint}: {shown}{more} differ; give the same values, or force_resume=true"
        )


def _check_parts(content: Any, checkpoint: Path) -> None:
    """Refuse a checkpoint that training could not go on from."""
    expected = {
        "state_dict": dict, "loops": dict, "optimizer_states": list, "lr_schedulers": list, "epoch": int,
        "global_step": int, "callbacks": dict,
    }  # fmt: skip
    if not isinstance(content, dict):
        raise WeightsError(f"{checkpoint}: expected a checkpoint of a training, found {type(content).__name__}")
    wrong = [key for key, kind in expected.items() if not isinstance(content.get(key), kind)]
    if wrong:
        raise WeightsError(
            f"{checkpoint}: not a checkpoint that training can go on from ({', '.join(wrong)} missing or damaged); start a "
            "new run, or load the weights alone with ckpt_path="
        )
    record = content.get("fusion") or {}
    if not isinstance(record, dict) or not isinstance(record.get("fingerprint") or {}, dict):
        raise WeightsError(f"{checkpoint}: its record is damaged; start a new run")


class RunFolder:
    """A run's configuration, record and results, each written whole or not at all. Only rank 0 writes.

    A folder belongs to one process at a time, which holds a lock on it, and its record only grows: every start adds a part.
    What a start changes (configuration, overrides) takes effect with `accept`, once training has begun: a refused override
    leaves no trace but its part.

    Args:
        path: the folder; made if it is missing.
        config: plain configuration of the run.
        resuming: whether a run already in the folder is continued.
        overrides: command-line overrides of the job.
        hint: what to do when the folder holds a run already.

    Raises:
        ConfigError: another process works in the folder, or it holds another run and `resuming` is not set.
    """

    def __init__(
        self, path: Path, config: dict[str, Any], resuming: bool, overrides: list[str], hint: str = ""
    ) -> None:
        self.path, self.config, self.overrides = path, config, overrides
        self._hint = hint or f"continue it with resume={path}, or choose another run_dir"
        self.writes = os.environ.get("RANK", "0") == "0"
        self.accepted = False
        self.manifest: dict[str, Any] = {}
        if not self.writes:
            return
        self._lock = _claim(path)
        try:
            self._begin(resuming)
        except BaseException:
            self._lock.close()
            raise

    def _begin(self, resuming: bool) -> None:
        file = self.path / MANIFEST
        before = _read_json(file) if file.is_file() else {}
        if before and not resuming and not self._restarts(before):
            raise ConfigError(f"{self.path} already holds a run: {self._hint}")
        parts = before.get("parts")
        part = {
            "started": _now(),
            "command": [sys.executable, *sys.argv],
            "overrides": self.overrides,
            "status": "starting",
        }
        self.manifest = {
            "name": self.config.get("name"),
            "overrides": before.get("overrides", self.overrides) if resuming else self.overrides,
            "logger_id": before.get("logger_id") or secrets.token_hex(4),
            "parts": [*(parts if isinstance(parts, list) else []), part | environment()],
        }
        self._save()
        if not (self.path / CONFIG).is_file():
            write_text(self.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(self.config)))

    def _restarts(self, before: dict[str, Any]) -> bool:
        """Whether this is the same run, which ended before it had anything to go on from, or one that was refused."""
        names = (RESULTS, f"{CHECKPOINTS}/last.ckpt", f"{CHECKPOINTS}/exception.ckpt")
        left = any((self.path / name).is_file() for name in names)
        parts = before.get("parts")
        refused = isinstance(parts, list) and all(isinstance(p, dict) and p.get("status") == "refused" for p in parts)
        return not left and (refused or before.get("overrides") == self.overrides)

    def accept(self) -> None:
        """Note that the part has begun its work: from now on the run has its configuration and overrides."""
        self.accepted = True
        if not self.writes:
            return
        text, file = OmegaConf.to_yaml(OmegaConf.create(self.config)), self.path / CONFIG
        number = len(self.manifest["parts"]) - 1
        if number and file.is_file() and file.read_text(encoding="utf-8") != text:
            write_text(self.path / f"config.{number}.yaml", file.read_text(encoding="utf-8"))  # of the part before
        write_text(file, text)
        self.manifest["overrides"] = self.overrides
        self.manifest["parts"][-1]["status"] = "running"
        self._save()

    @property
    def logger_id(self) -> str | None:
        """Identity of the run towards loggers, kept over resumes; None on other ranks than 0."""
        return self.manifest.get("logger_id")

    def finish(self, status: str) -> None:
        """Note how this part of the run ended, and let go of the folder."""
        if self.writes:
            try:
                self.manifest["parts"][-1] |= {"status": status, "ended": _now()}
                self._save()
            finally:
                self._lock.close()

    def write_results(self, results: dict[str, Any]) -> None:
        """Write the final numbers."""
        if self.writes:
            write_text(self.path / RESULTS, json.dumps(results, indent=2) + "\n")

    def _save(self) -> None:
        write_text(self.path / MANIFEST, json.dumps(self.manifest, indent=2) + "\n")


def _claim(path: Path) -> IO[str]:
    """An open, locked file in the folder; the system gives the lock back when the process ends, however it ends.

    Raises:
        ConfigError: another process holds it, or the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("a+")
    except OSError as error:
        raise ConfigError(
            f"run_dir={path}: cannot be written ({error.strerror or error}); choose another run_dir"
        ) from error
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise ConfigError(f"{path}: another process works in this run folder; choose another run_dir") from error
        except OSError:  # a file system without locks
            pass
    return lock


def recorded_again(path: Path, overrides: list[str]) -> dict[str, Any] | None:
    """The record of a job of the same overrides that is in a folder already; None if there is none.

    Raises:
        ConfigError: its record is damaged.
    """
    manifest = _read_json(path / MANIFEST) if (path / MANIFEST).is_file() else {}
    return manifest if manifest and manifest.get("overrides") == overrides else None


def read_results(path: Path) -> dict[str, Any]:
    """Results that a run left in its folder; empty if it left none."""
    file = path / RESULTS
    return _read_json(file) if file.is_file() else {}


def environment() -> dict[str, Any]:
    """Where a run or a measurement was made: commit, versions, hardware."""
    import torch

    versions = {"fusion": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "lightning", "timm", "kornia", "torchmetrics"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    hardware = {"host": platform.node(), "platform": platform.platform(), "cpus": os.cpu_count(), "gpus": gpus}
    return {"versions": versions, "hardware": hardware, "git": _git()}


def _git() -> dict[str, Any] | None:
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None

    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=source, capture_output=True, text=True, check=True, timeout=10
        ).stdout

    try:
        return {"commit": ask("rev-parse", "HEAD").strip(), "dirty": bool(ask("status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
