"""Loggers: one CSV per run that survives kills and resumes, and Weights & Biases that needs no account."""

import csv
import os
from argparse import Namespace
from collections.abc import Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from fusion.errors import ConfigError
from fusion.files import atomic

os.environ.setdefault("WANDB_SILENT", "true")  # read when wandb is imported: no banners between our lines

MODES = ("auto", "online", "offline", "disabled")


class MetricsCSV(Logger):
    """One row per step in `metrics.csv`; columns appear as metrics do.

    What is logged is on disk at once, so that a killed run loses no row. A resumed run continues the file: rows of steps
    that it repeats are replaced.

    Args:
        save_dir: folder of the file.
        file: name of the file.
    """

    def __init__(self, save_dir: str, file: str = "metrics.csv") -> None:
        super().__init__()
        self.path = Path(save_dir) / file
        self._columns: list[str] = []
        self._row: dict[str, Any] = {}
        self._begin: int | None = None  # where the row stands in the file
        self._fresh = False  # whether the row has something that is not in the file
        self._started = False

    @property
    def name(self) -> str:
        """Name towards Lightning."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one version: the run folder."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the file."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the run folder holds config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add metrics to the row of a step."""
        step = int(step or 0)
        if not self._started:
            self._start(step)
        if self._row.get("step", step) != step:
            self._write()
            self._row, self._begin = {}, None
        self._row |= {"step": step} | {key: float(value) for key, value in metrics.items()}
        self._fresh = True

    @rank_zero_only
    def save(self) -> None:
        """Write the row; Lightning asks after every call, and more metrics of the same step may follow."""
        self._write()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self._write()

    def _start(self, step: int) -> None:
        self._started = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.is_file():
            return
        rows = self._read()
        self._columns = list(rows[0]) if rows else []
        self._rewrite([row for row in rows if row.get("step", "").isdigit() and int(row["step"]) < step])
        self._begin = None  # the row that comes now is not in the file yet

    def _read(self) -> list[dict[str, str]]:
        """Whole rows; a killed run may have left half a line."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        return [row for row in csv.DictReader(whole) if None not in row and None not in row.values()]

    def _rewrite(self, rows: list[dict[str, Any]], last: dict[str, Any] | None = None) -> None:
        with atomic(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
            self._begin = file.tell()
            if last is not None:
                writer.writerow(last)

    def _write(self) -> None:
        if not self._fresh:
            return
        self._fresh = False
        new = sorted(set(self._row) - set(self._columns))
        if new:
            rows = self._read() if self.path.is_file() else []
            if self._begin is not None and rows:
                rows.pop()  # this row, as it was
            first = [key for key in ("step", "epoch") if key in new]
            self._columns += first + [key for key in new if key not in first]
            self._rewrite(rows, self._row)
            return
        with self.path.open("r+", newline="", encoding="utf-8") as file:
            if self._begin is None:
                self._begin = file.seek(0, os.SEEK_END)
            else:
                file.seek(self._begin)
                file.truncate()
            csv.DictWriter(file, self._columns, restval="").writerow(self._row)


def wandb_logger(
    save_dir: str,
    project: str = "fusion",
    name: str | None = None,
    mode: str = "auto",
    id: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    job_type: str | None = None,
) -> WandbLogger:
    """A Weights & Biases logger that asks for nothing: offline where nobody is logged in.

    Args:
        save_dir: folder that gets the `wandb` folder; upload an offline run with `wandb sync`.
        project: W&B project.
        name: shown name of the run.
        mode: "auto" is the environment's `WANDB_MODE` if set, else online with an account and offline without.
        id: identity of the run; a resumed run keeps its own.
        group: W&B group.
        tags: W&B tags.
        job_type: what the run does: train, evaluate.

    Raises:
        ConfigError: unknown mode.
    """
    if mode not in MODES:
        raise ConfigError(f"logger.wandb.mode={mode}: expected one of {', '.join(MODES)}")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    chosen = os.environ.get("WANDB_MODE") if mode == "auto" else mode
    if not chosen:
        chosen = "online" if has_account() else "offline"
    if os.environ.get("WANDB_SWEEP_ID"):  # an agent of W&B has chosen which run this is
        id = group = None
        name = None
    logger = WandbLogger(
        name=name,
        save_dir=save_dir,
        project=project,
        id=id,
        log_model=False,
        group=group,
        tags=list(tags),
        job_type=job_type,
        mode=chosen,
    )
    logger._wandb_init.pop("anonymous", None)  # W&B warns of this setting, which Lightning always gives
    return logger


def has_account() -> bool:
    """Whether W&B would find an account by itself; asked here because W&B would otherwise ask the user."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return host in netrc(os.environ.get("NETRC")).hosts
    except (OSError, NetrcParseError):
        return False
