"""Where a run or a measurement is made."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fusion.version import __version__


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
