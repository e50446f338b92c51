"""What a job of a sweep leaves in its folder about itself: `job.json`. Only the first process of a job writes it."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.files import write_text
from fusion.job.resolvers import CHECKPOINTS

JOB = "job.json"
NEW, INTERRUPTED, FAILED, FINISHED = "new", "interrupted", "failed", "finished"
KEPT = (".hydra", JOB)
"""Stay in place when a job starts anew; everything else of its first attempt is set aside."""


class JobRecord:
    """The record of one job.

    Args:
        folder: of the job.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data: dict[str, Any] = read_json(folder / JOB)

    def start(self, overrides: Sequence[str], label: str) -> None:
        """Note that the job runs now."""
        self._started = time.monotonic()
        before = float(self.data.get("seconds") or 0.0) if self.data.get("status") != FINISHED else 0.0
        self.data = {"overrides": list(overrides), "label": label, "status": "running", "seconds": before}
        self._save()

    def end(self, status: str, **facts: Any) -> None:
        """Note how it ended: `value`, or `error` (one line) and `exit` (status)."""
        seconds = float(self.data.get("seconds") or 0.0) + time.monotonic() - self._started
        self.data |= {"status": status, "seconds": round(seconds, 2)} | facts
        self._save()

    def _save(self) -> None:
        if os.environ.get("RANK", "0") == "0":
            write_json(self.folder / JOB, self.data)


def job_state(folder: Path) -> str:
    """How far the job in a folder is: "new", "interrupted", "failed" or "finished"."""
    status = read_json(folder / JOB).get("status")
    if status in (FINISHED, FAILED):
        return status
    parts = read_json(folder / "run.json").get("parts") or []
    if parts and parts[-1].get("status") == FINISHED and (folder / "results.json").is_file():
        return FINISHED  # killed between its last line and its record
    if parts and parts[-1].get("status") == FAILED:
        return FAILED
    return INTERRUPTED if status or parts else NEW


def job_value(folder: Path) -> float | None:
    """What a finished job gave back to its sweeper."""
    value = read_json(folder / JOB).get("value", read_json(folder / "results.json").get("value"))
    return float(value) if isinstance(value, int | float) else None


def checkpoint_to_continue(folder: Path) -> Path | None:
    """What `resume=` goes on from: the very step of an interruption where that was kept, else the last checkpoint."""
    last, interrupted = (folder / CHECKPOINTS / name for name in ("last.ckpt", "exception.ckpt"))
    if interrupted.is_file() and not (last.is_file() and last.stat().st_mtime > interrupted.stat().st_mtime):
        return interrupted
    return folder if last.is_file() else None


def set_aside(folder: Path) -> Path | None:
    """Move what a job without a checkpoint left into `attempt_<n>`, so that it can start anew; None if there is nothing."""
    if not (folder / "run.json").is_file():
        return None
    left = [path for path in folder.iterdir() if path.name not in KEPT and path.suffix != ".log"]
    left = [path for path in left if not path.name.startswith("attempt_")]
    number = 1 + len(list(folder.glob("attempt_*")))
    place = folder / f"attempt_{number}"
    place.mkdir()
    for path in left:
        path.rename(place / path.name)
    return place


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file; empty if it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(data, indent=2) + "\n")
