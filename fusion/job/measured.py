"""Measured numbers that stay with their origin: rows of a CSV file with hardware, commit, date and command."""

import csv
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.errors import ConfigError
from fusion.files import write_csv
from fusion.job.surroundings import environment

ORIGIN = ("hardware", "commit", "date", "command")


def record(path: str | Path, rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Path:
    """Add rows to a file of measured numbers; rows with the same labels are replaced.

    Args:
        path: the CSV file; made if it is missing.
        rows: labels and numbers by name.
        labels: columns that say what a row is about.

    Raises:
        ConfigError: the name does not end in .csv.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"record={path}: expected the name of a .csv file")
    before: list[dict[str, Any]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            before = list(csv.DictReader(file))
    new = [dict(row) | origin() for row in rows]
    replaced = {tuple(str(row.get(key, "")) for key in labels) for row in new}
    kept = [row for row in before if tuple(row.get(key) or "" for key in labels) not in replaced]
    columns = [key for key in dict.fromkeys(key for row in (*kept, *new) for key in row) if key not in ORIGIN]
    columns += ORIGIN
    return write_csv(path, [{key: row.get(key, "") for key in columns} for row in (*kept, *new)], columns)


def origin() -> dict[str, str]:
    """Where and when a number is made."""
    about = environment()
    gpus, git = about["hardware"]["gpus"], about["git"] or {}
    commit = str(git.get("commit") or "")[:12] + (" with local changes" if git.get("dirty") else "")
    hardware = ", ".join(gpus) if gpus else f"CPU, {about['hardware']['cpus']} processors"
    program = Path(sys.argv[0])
    module = "fusion." + (program.stem if program.stem != "__main__" else program.parent.name)
    command = f"python -m {module} {shlex.join(sys.argv[1:])}".strip()
    return {"hardware": hardware, "commit": commit, "date": time.strftime("%Y-%m-%d"), "command": command}
