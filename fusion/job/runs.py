"""The folder of one run: what is written into it, how a run is found again, and when it may be continued."""

import json
import os
import platform
import secrets
import subprocess
import sys
import time
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fusion.errors import ConfigError, WeightsError
from fusion.files import write_text
from fusion.job.aliases import with_present_names
from fusion.job.config import flatten
from fusion.job.records import read_json
from fusion.job.resolvers import CHECKPOINTS, run_folder
from fusion.job.sweep import PLAN
from fusion.version import __version__

CONFIG = "config.yaml"
MANIFEST = "run.json"
RESULTS = "results.json"

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
        what = "no such run folder" if not path.is_dir() else f"no {CHECKPOINTS}/last.ckpt in it, so nothing to resume"
        raise ConfigError(f"resume={resume}: {what}; start a new run without resume=")
    return last


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
        again = [line for line in plan["arguments"] if _key(line) not in {*given, "hydra.sweep.dir"}]
        place = arguments.index(given["resume"])
        again.append(f"hydra.sweep.dir={resume}")
        return ["-m", *arguments[:place], *again, *arguments[place + 1 :]]
    resume_checkpoint(resume)  # before Hydra makes folders
    saved = Path(run_folder(resume, "")) / MANIFEST
    manifest = _read_json(saved) if saved.is_file() else {}
    kept = [line for line in manifest.get("overrides", []) if _key(line) not in {*given, "run_dir"}]
    return [*arguments[:start], *kept, *arguments[start:]]


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
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get("fusion", {})
    except Exception as error:
        raise WeightsError(f"{checkpoint}: not a readable checkpoint ({type(error).__name__})") from error
    before = with_present_names(saved.get("fingerprint"))
    if not before or force:
        return
    differing = sorted(key for key in before.keys() | current.keys() if before.get(key) != current.get(key))
    if differing:
        shown = ", ".join(f"{key} (was {before.get(key)}, now {current.get(key)})" for key in differing[:8])
        more = f" and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise ConfigError(
            f"cannot resume {checkpoint}: {shown}{more} differ; give the same values, or force_resume=true"
        )


class RunFolder:
    """Writes a run's configuration, manifest and results, each whole or not at all. Only rank 0 writes.

    Args:
        path: the folder; it exists.
        config: plain configuration of the run.
        resuming: whether a run already in the folder is continued.
        overrides: command-line overrides of the job.

    Raises:
        ConfigError: the folder holds another run and `resuming` is not set.
    """

    def __init__(self, path: Path, config: dict[str, Any], resuming: bool, overrides: list[str]) -> None:
        self.path = path
        self.writes = os.environ.get("RANK", "0") == "0"
        manifest = path / MANIFEST
        if not self.writes:
            self.manifest: dict[str, Any] = {}
            return
        if manifest.is_file() and not resuming:
            raise ConfigError(f"{path} already holds a run: continue it with resume={path}, or choose another run_dir")
        path.mkdir(parents=True, exist_ok=True)
        before = _read_json(manifest) if manifest.is_file() else {}
        parts = before.get("parts", [])
        if (path / CONFIG).is_file():
            os.replace(path / CONFIG, path / f"config.{len(parts)}.yaml")  # of the part before
        write_text(path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
        part = {"started": _now(), "command": [sys.executable, *sys.argv], "status": "running"} | environment()
        self.manifest = {
            "name": config.get("name"),
            "overrides": overrides,
            "logger_id": before.get("logger_id") or secrets.token_hex(4),
            "parts": [*parts, part],
        }
        self._save()

    @property
    def logger_id(self) -> str | None:
        """Identity of the run towards loggers, kept over resumes; None on other ranks than 0."""
        return self.manifest.get("logger_id")

    def finish(self, status: str) -> None:
        """Note how this part of the run ended."""
        if self.writes:
            self.manifest["parts"][-1] |= {"status": status, "ended": _now()}
            self._save()

    def write_results(self, results: dict[str, Any]) -> None:
        """Write the final numbers."""
        if self.writes:
            write_text(self.path / RESULTS, json.dumps(results, indent=2) + "\n")

    def _save(self) -> None:
        write_text(self.path / MANIFEST, json.dumps(self.manifest, indent=2) + "\n")


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
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not readable as JSON ({error})") from error
