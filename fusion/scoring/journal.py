"""Scores of a run in progress, one line each, so that a killed run goes on where it was."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.files import write_text


def stamp(paths: Sequence[Path]) -> str:
    """Changes when a file's place, size or time of writing does."""
    facts = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


class Journal:
    """An append-only file of scored images beside the table they will become.

    Args:
        path: the file.
        settings: how the scores are made; a journal made otherwise is started anew.
        resume: whether to take over what is there.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool) -> None:
        self.path = path
        self._done: dict[tuple[str, str], tuple[str, dict[str, float]]] = {}
        if resume and path.is_file():
            self._load(settings)
        lines = [json.dumps({"settings": settings})]
        lines += [self._line(*key, mark, values) for key, (mark, values) in self._done.items()]
        write_text(path, "\n".join(lines) + "\n")
        self._file = path.open("a", encoding="utf-8")

    def _load(self, settings: dict[str, Any]) -> None:
        records = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # the last line of a killed run may be cut
                records.append(json.loads(line))
        if (
            not records
            or not isinstance(records[0], dict)
            or records[0].get("settings") != json.loads(json.dumps(settings))
        ):
            return
        for record in records[1:]:
            with contextlib.suppress(KeyError, TypeError, ValueError):  # damaged: scored again
                values = {str(key): float(value) for key, value in record["values"].items()}
                self._done[record["method"], record["image"]] = (record["stamp"], values)

    @staticmethod
    def _line(method: str, image: str, mark: str, values: dict[str, float]) -> str:
        return json.dumps({"method": method, "image": image, "stamp": mark, "values": values})

    def known(self, method: str, image: str, mark: str) -> dict[str, float] | None:
        """Values scored before, if the files are still the same."""
        found = self._done.get((method, image))
        return found[1] if found and found[0] == mark else None

    def add(self, method: str, image: str, mark: str, values: dict[str, float]) -> None:
        """Writes one image's values down."""
        self._file.write(self._line(method, image, mark, values) + "\n")
        self._file.flush()

    def close(self, finished: bool) -> None:
        """Closes the file, and removes it when the run is finished."""
        self._file.close()
        if finished:
            self.path.unlink(missing_ok=True)
