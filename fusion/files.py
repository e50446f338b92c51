"""Files written whole or not at all, and tables as CSV and Markdown."""

import contextlib
import csv
import errno
import io
import os
import platform
import re
import shutil
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_CLEAN: set[tuple[int, Path]] = set()
_LEFTOVER = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-\d+\.part")


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files of `atomic` whose process, of this machine, is gone.

    Returns:
        What was removed.
    """
    removed = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            found = _LEFTOVER.fullmatch(entry.name) if entry.name.endswith(".part") else None
            if found and found[1] == _HOST and not _is_alive(int(found[2])):
                with contextlib.suppress(OSError):
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
                    removed.append(Path(entry.path))
    return removed


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # another user's
    return True


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Replace a file in one step: whoever reads `path` finds the old content or the new one, never a part of it.

    What is written at the temporary path, which lies beside `path`, is brought to disk and renamed when the block ends
    without an error; after an error it is removed and `path` stays as it was. Missing folders are made. Processes and
    threads that write the same file do not meet, the last one wins.

    Args:
        path: the file to write.

    Yields:
        The temporary path, `.<name>.<host>-<process>-<thread>.part`. Those of processes that were killed are removed when
        the next process writes into the folder.

    Raises:
        OSError: the folder cannot be written, the disk is full, or the path is a device or pipe, which stays.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EPERM, "is no regular file", str(path))
    temporary = temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:  # closed by its writer: what the system still holds goes to disk
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):  # whoever reads the message knows the other name
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A name beside `path` for a file or folder that is going to be renamed to it; leftovers of others are removed first.

    Args:
        path: the target; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if (os.getpid(), path.parent) not in _CLEAN:
        _CLEAN.add((os.getpid(), path.parent))
        remove_leftovers(path.parent)
    short = (
        path.name if len(os.fsencode(path.name)) < 180 else f"{path.name[:40]}{zlib.crc32(os.fsencode(path.name)):08x}"
    )
    return path.with_name(f".{short}.{_HOST}-{os.getpid()}-{threading.get_ident()}.part")


def is_bomb(path: Path) -> bool:
    """Whether a file is a zip archive whose parts are together larger than the whole: packed, or one upon the other.

    PyTorch stores tensors as they are.

    Raises:
        OSError, ValueError: unreadable, or a damaged archive.
    """
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(part.file_size for part in archive.infolist()) > path.stat().st_size
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"damaged archive ({error})") from error


def number(value: Any, decimals: int = 4) -> str:
    """A value as a table shows it: floats rounded, "-" for nothing and not-a-number, whole numbers with separators."""
    if value is None or value != value:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.{decimals}f}"


def markdown(
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    decimals: int | Sequence[int] = 4,
    right: Sequence[bool] | None = None,
) -> str:
    """A Markdown table whose columns are aligned, so that it reads well as plain text too.

    Args:
        header: column names.
        rows: values, see `number`; columns of numbers are aligned to the right.
        decimals: of floats, of all columns or of each.
        right: columns that are aligned to the right, in place of the columns of numbers.
    """
    places = [decimals] * len(header) if isinstance(decimals, int) else list(decimals)
    cells = [list(header), *([_cell(*pair) for pair in zip(row, places, strict=True)] for row in rows)]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(header))]
    right = right or [
        all(isinstance(row[i], int | float | None) for row in rows) and bool(rows) for i in range(len(header))
    ]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 1) + ":" if r else "-" * (w + 2) for w, r in zip(widths, right, strict=True))
    return "\n".join([line(cells[0]), f"|{rule}|", *(line(row) for row in cells[1:])]) + "\n"


def _cell(value: Any, decimals: int) -> str:
    return number(value, decimals).replace("|", "\\|")


def write_text(path: Path, text: str) -> Path:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return path


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows of values as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], header: Sequence[str] | None = None) -> Path:
    """Write rows as a table, whole or not at all.

    Args:
        path: file to write.
        rows: values by column.
        header: the columns to write and their order; the first row's, if not given.
    """
    columns = list(header if header is not None else rows[0] if rows else [])
    return write_text(path, csv_text([columns, *([row[column] for column in columns] for row in rows)]))
