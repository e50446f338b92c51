"""Reads a W&B run's offline file: a LevelDB log of protobuf records."""

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
    """What the file says."""

    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[Any]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[tuple[str, str]] = field(default_factory=list)


def records(path: Path) -> Iterator[pb.Record]:
    """Every record of the file."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, whole = 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # the rest of a block is left empty
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        piece = data[place + 7 : place + 7 + length]
        place += 7 + length
        whole = piece if kind in (FULL, FIRST) else whole + piece
        if kind in (FULL, LAST) and whole:
            record = pb.Record()
            record.ParseFromString(whole)
            yield record


def read(folder: Path) -> Offline:
    """The one offline run below a run folder."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    run = Offline()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.name, run.group, run.job_type = record.run.display_name, record.run.run_group, record.run.job_type
            run.tags = list(record.run.tags)
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
    return run


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)
