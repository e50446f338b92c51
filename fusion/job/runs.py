"""The folder of one run: what is written into it, and when it may be used again."""

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf

from fusion.errors import ConfigError
from fusion.files import write_text
from fusion.job.resolvers import CHECKPOINTS
from fusion.job.surroundings import environment

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONFIG = "config.yaml"
MANIFEST = "run.json"
RESULTS = "results.json"
LOCK = ".lock"


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
        before = read_record(file) if file.is_file() else {}
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
    manifest = read_record(path / MANIFEST) if (path / MANIFEST).is_file() else {}
    return manifest if manifest and manifest.get("overrides") == overrides else None


def read_results(path: Path) -> dict[str, Any]:
    """Results that a run left in its folder; empty if it left none."""
    file = path / RESULTS
    return read_record(file) if file.is_file() else {}


def read_record(path: Path) -> dict[str, Any]:
    """A record of a run, from its JSON file.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
