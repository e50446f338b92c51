"""A sweep as tables and curves (TC-MoA Fig. 8 and Table 10): a row per job, and a row per setting over its seeds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from fusion.analysis.sweep_figure import draw_sweep
from fusion.analysis.sweep_jobs import EPOCHS, Job, order, read_jobs, swept_keys
from fusion.errors import ConfigError, DataError
from fusion.files import markdown, number, write_csv, write_text

AVERAGED = ("seed",)
"""Keys that are repetitions of one setting."""


@dataclass
class Setting:
    """Jobs that differ in nothing but what is averaged.

    Attributes:
        values: of the swept keys.
        jobs: its jobs.
    """

    values: dict[str, Any]
    jobs: list[Job]

    def mean(self, metric: str) -> float | None:
        """Mean over the jobs that have the metric."""
        found = self.numbers(metric)
        return fmean(found) if found else None

    def std(self, metric: str) -> float | None:
        """Standard deviation (n - 1) over the jobs; None for a single one."""
        found = self.numbers(metric)
        return stdev(found) if len(found) > 1 else None

    def numbers(self, metric: str) -> list[float]:
        """Values of the jobs that have the metric."""
        return [job.metrics[metric] for job in self.jobs if metric in job.metrics]


@dataclass
class Table:
    """A sweep, read: its jobs with and without numbers, its keys, and its settings."""

    jobs: list[Job]
    failed: list[Job]
    keys: list[str]
    averaged: list[str]
    settings: list[Setting]
    monitor: str | None
    epoch: str

    @property
    def minimised(self) -> bool:
        """Whether smaller is better."""
        return bool(self.jobs) and self.jobs[0].config.get("monitor.mode") == "min"

    def best(self) -> Setting | None:
        """The setting with the best mean of the monitored metric."""
        if self.monitor is None:
            return None
        able = [setting for setting in self.settings if setting.mean(self.monitor) is not None]
        pick = min if self.minimised else max
        return pick(able, key=lambda setting: setting.mean(str(self.monitor)) or 0.0) if able else None


def read_sweep(folder: Path, options: Mapping[str, Any]) -> Table:
    """Read a sweep's folder.

    Raises:
        DataError: no sweep there, or no job of it finished.
        ConfigError: an unknown `epoch`.
    """
    epoch = options.get("epoch") or "best"
    if epoch not in EPOCHS:
        raise ConfigError(f"sweep.epoch={epoch}: expected {' or '.join(EPOCHS)}")
    jobs = read_jobs(folder, epoch)
    done = [job for job in jobs if job.metrics]
    if not done:
        listed = "; ".join(_problem(job, ()) for job in jobs[:5])
        raise DataError(f"dir={folder}: none of the {len(jobs)} jobs has results yet: {listed}")
    keys = swept_keys(jobs)
    done.sort(key=lambda job: [order(job.value(key)) for key in keys])
    averaged = [key for key in options.get("average", AVERAGED) or () if key in keys]
    kept = [key for key in keys if key not in averaged]
    settings: dict[str, Setting] = {}
    for job in done:
        values = {key: job.value(key) for key in kept}
        settings.setdefault(json.dumps(values, default=str), Setting(values, [])).jobs.append(job)
    monitor = next((job.monitor for job in done if job.monitor), None)
    failed = [job for job in jobs if not job.metrics]
    return Table(done, failed, keys, averaged, list(settings.values()), monitor, epoch)


def sweep(folder: Path, out: Path, options: Mapping[str, Any]) -> list[Path]:
    """Read a sweep's folder and write `sweep.csv`, `sweep.md`, `sweep.png`, and `sweep_settings.csv` if seeds were averaged.

    All numbers of a row are of one epoch, which column `epoch` names. Jobs that failed, or have not finished, are listed
    by name with what is known of them.

    Args:
        folder: of the sweep, one folder per job.
        out: run folder for the tables and the figure.
        options: `metrics` and `plot`: names or patterns of the metrics in the table and the figure, None decides;
            `epoch`: best or last; `average`: keys that are repetitions.

    Raises:
        DataError: no sweep there, or no job of it finished.
        ConfigError: patterns that no metric matches, or an unknown epoch.
    """
    table = read_sweep(folder, options)
    metrics = choose(table.jobs, options.get("metrics"), _listed(table.monitor), "metrics")
    drawn = choose(table.jobs, options.get("plot"), plotted(table.monitor), "plot")
    rows = [
        {"job": job.name}
        | {key: job.value(key) for key in table.keys}
        | {"epoch": job.epoch}
        | {metric: job.metrics.get(metric) for metric in metrics}
        for job in table.jobs
    ]
    text = write_text(out / "sweep.md", as_markdown(table, metrics, rows))
    print(text.read_text(encoding="utf-8"), end="")
    paths = [write_csv(out / "sweep.csv", rows), text]
    if table.averaged:
        paths.append(write_csv(out / "sweep_settings.csv", _setting_rows(table, metrics)))
    return [*paths, draw_sweep(table.jobs, table.keys, drawn, table.averaged, out / "sweep.png")]


def show_sweep(folder: Path) -> None:
    """Print a sweep's table, write it and the plot into the sweep's folder, and say where they are."""
    for path in sweep(folder, folder, {}):
        print(path)
    print(f"report: python -m fusion.report sweep={folder}")


def as_markdown(table: Table, metrics: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The tables, what is best, and the jobs without numbers, as Markdown."""
    parts = []
    if table.averaged:
        names = " and ".join(table.averaged)
        header = [*(key for key in table.keys if key not in table.averaged), "jobs", *metrics]
        shown = [[*map(str, s.values.values()), len(s.jobs), *(_spread(s, m) for m in metrics)] for s in table.settings]
        parts.append(f"Mean and standard deviation over {names}:\n\n{markdown(header, shown)}")
    header = ["job", *table.keys, "epoch", *metrics]
    shown = [[str(row[key]) for key in ("job", *table.keys, "epoch")] + [row[m] for m in metrics] for row in rows]
    which = f"the best epoch by {table.monitor}" if table.epoch == "best" and table.monitor else "the last epoch"
    parts.append(f"Each job at {which}:\n\n{markdown(header, shown)}")
    best = table.best()
    if best is not None and table.monitor:
        what = ", ".join(f"{key}={value}" for key, value in best.values.items()) or "all"
        names = ", ".join(job.name for job in best.jobs)
        jobs = f"job{'s' if len(best.jobs) > 1 else ''} {names} ({what})"
        parts.append(f"Best {table.monitor}: {jobs}, {_spread(best, table.monitor)}.\n")
    if table.failed:
        total = len(table.jobs) + len(table.failed)
        listed = "".join(f"- {_problem(job, table.keys)}\n" for job in table.failed)
        parts.append(f"{len(table.failed)} of {total} jobs without results:\n\n{listed}")
    return "\n".join(parts).rstrip("\n") + "\n"


def choose(jobs: Sequence[Job], patterns: Sequence[str] | str | None, default: Sequence[str], option: str) -> list[str]:
    """Metrics of the jobs that match patterns, in the order of the patterns.

    Raises:
        ConfigError: a pattern that was asked for matches none.
    """
    known = list(dict.fromkeys(name for job in jobs for name in job.metrics))
    asked = [patterns] if isinstance(patterns, str) else patterns
    chosen: dict[str, None] = {}
    for pattern in asked or default:
        matching = [name for name in known if fnmatchcase(name, pattern)]
        if asked and not matching:
            raise ConfigError(f"sweep.{option}: no metric matches '{pattern}'; these jobs have {', '.join(known[:30])}")
        chosen |= dict.fromkeys(matching)
    return list(chosen) or known


def plotted(monitor: str | None) -> list[str]:
    """The monitored metric, and the same of each task."""
    if monitor is None:
        return ["val/*"]
    stage, _, metric = monitor.partition("/")
    return [monitor, f"{stage}/*/{metric}"]


def _listed(monitor: str | None) -> list[str]:
    return [*([monitor] if monitor else []), "val/*", "test/*"]


def _setting_rows(table: Table, metrics: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for setting in table.settings:
        row: dict[str, Any] = {**setting.values, "jobs": len(setting.jobs)}
        for metric in metrics:
            row |= {metric: setting.mean(metric), f"{metric} std": setting.std(metric)}
        rows.append(row)
    return rows


def _spread(setting: Setting, metric: str) -> str:
    spread = setting.std(metric)
    return number(setting.mean(metric)) + (f" ± {number(spread)}" if spread is not None else "")


def _problem(job: Job, keys: Sequence[str]) -> str:
    return f"{job.name} ({', '.join(f'{key}={job.value(key)}' for key in keys or job.overrides)}): {job.problem}"
