"""Reads what Weights & Biases has written offline for a run: LevelDB logs of protobuf records, one per part of the run."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

BLOCK = 32768
FULL, FIRST, LAST = 1, 2, 4


@dataclass
class Offline:
    """What the files say; `folders` hold the media of `history`, `staged` are the files of artifacts."""

    id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[Any]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    staged: dict[str, Path] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)

    def media(self, path: str) -> Path | None:
        """The file of a picture or a table, by the path that the history or a table has of it."""
        found = [folder / "files" / path for folder in self.folders]
        return next((file for file in found if file.is_file()), None)


def records(path: Path) -> Iterator[pb.Record]:
    """Every whole record of a file; a killed run may have left half a record at its end."""
    data = path.read_bytes()
    if data and data[:4] != b":W&B":
        raise ValueError(f"{path}: not a file of W&B")
    place, whole = 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # the rest of a block is left empty
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        piece = data[place + 7 : place + 7 + length]
        if len(piece) < length:
            return
        place += 7 + length
        whole = piece if kind in (FULL, FIRST) else whole + piece
        if kind in (FULL, LAST) and whole:
            record = pb.Record()
            record.ParseFromString(whole)
            yield record


def read(folder: Path) -> Offline:
    """The offline run below a run folder, over all its parts."""
    run = Offline()
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        run.folders.append(path.parent)
        for record in records(path):
            _add(run, record)
    return run


def _add(run: Offline, record: pb.Record) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run.id, run.name, run.group = record.run.run_id, record.run.display_name, record.run.run_group
        run.job_type, run.tags = record.run.job_type, list(record.run.tags)
        run.config |= {_key(item): json.loads(item.value_json) for item in record.run.config.update}
    elif kind == "config":
        run.config |= {_key(item): json.loads(item.value_json) for item in record.config.update}
    elif kind == "metric":
        run.metrics[record.metric.name or record.metric.glob_name] = record.metric
    elif kind == "history":
        for item in record.history.item:
            run.history.setdefault(_key(item), []).append(json.loads(item.value_json))
    elif kind == "summary":
        run.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
    elif kind == "artifact":
        run.artifacts.append((record.artifact.type, record.artifact.name))
        run.staged |= {entry.path: Path(entry.local_path) for entry in record.artifact.manifest.contents}


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)
