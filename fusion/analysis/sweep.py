"""A sweep's jobs as one table of swept keys and metrics, and curves in the style of TC-MoA's Fig. 8."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from fusion.analysis.figures import grid, save
from fusion.errors import ConfigError, DataError
from fusion.files import markdown, number, write_csv, write_text
from fusion.job.config import flatten

NOT_SWEPT = ("run_dir", "resume", "paths.", "hydra.")
"""Keys that say where a job writes, not what it does."""
MAX_LINES = 10
"""Curves that a panel names; more are drawn in grey."""


@dataclass
class Job:
    """One job of a sweep.

    Attributes:
        name: of its folder.
        overrides: keys that were set for it, and their values.
        config: its flat configuration, empty if it left none.
        metrics: its final numbers, empty if it did not finish.
        problem: why there are no numbers.
    """

    name: str
    overrides: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    monitor: str | None = None
    problem: str | None = None

    def value(self, key: str) -> Any:
        """Value of a key, as it was set or as the configuration has it."""
        return self.overrides.get(key, self.config.get(key))


def sweep(folder: Path, out: Path, options: Mapping[str, Any]) -> list[Path]:
    """Read a sweep's folder and write `sweep.csv`, `sweep.md` and `sweep.png`.

    Jobs that failed, or have not finished, are listed by name with what is known of them.

    Args:
        folder: of the sweep, one folder per job.
        out: run folder for the tables and the figure.
        options: `metrics` and `plot`: names or patterns of the metrics in the table and the figure; None decides.

    Raises:
        DataError: no sweep there, or no job of it finished.
        ConfigError: patterns that no metric matches.
    """
    jobs = read_jobs(folder)
    done = [job for job in jobs if job.metrics]
    if not done:
        listed = "; ".join(_problem(job, ()) for job in jobs[:5])
        raise DataError(f"dir={folder}: none of the {len(jobs)} jobs has results yet: {listed}")
    keys = swept_keys(jobs)
    done.sort(key=lambda job: [_order(job.value(key)) for key in keys])
    monitor = next((job.monitor for job in done if job.monitor), None)
    table = choose(done, options.get("metrics"), ["val/*", "test/*"], "metrics")
    drawn = choose(done, options.get("plot"), _plotted(monitor), "plot")
    rows = [
        {"job": job.name} | {key: job.value(key) for key in keys} | {m: job.metrics.get(m) for m in table}
        for job in done
    ]
    failed = [job for job in jobs if not job.metrics]
    best = _best(done, monitor)
    shown = [[str(row[key]) for key in ("job", *keys)] + [row[metric] for metric in table] for row in rows]
    lines = [markdown(["job", *keys, *table], shown)]
    lines += (
        [f"Best {monitor}: job {best.name} ({_setting(best, keys)}), {number(best.metrics[monitor])}."]
        if best and monitor
        else []
    )
    if failed:
        lines.append(f"{len(failed)} of {len(jobs)} jobs without results:\n")
        lines[-1] += "".join(f"\n- {_problem(job, keys)}" for job in failed)
    text = write_text(out / "sweep.md", "\n".join(lines).rstrip("\n") + "\n")
    print(text.read_text(encoding="utf-8"), end="")
    return [write_csv(out / "sweep.csv", rows), text, _figure(done, keys, drawn, out / "sweep.png")]


def read_jobs(folder: Path) -> list[Job]:
    """The jobs below a sweep's folder, in the order of their numbers.

    Raises:
        DataError: no such folder, or no job in it.
    """
    if not folder.is_dir():
        raise DataError(f"dir={folder}: no such folder; expected the folder of a sweep, with one folder per job")
    marks = (".hydra/overrides.yaml", "run.json", "results.json", "config.yaml")
    found = [path for path in folder.iterdir() if path.is_dir() and any((path / mark).is_file() for mark in marks)]
    if not found:
        raise DataError(
            f"dir={folder}: no job folder in it (one with .hydra/overrides.yaml or results.json); "
            "expected what python -m fusion.train -m ... wrote"
        )
    return [_read(path) for path in sorted(found, key=lambda path: _order(path.name))]


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """Keys whose values differ between the jobs; if none does, all that were set."""
    keys = [key for key in dict.fromkeys(key for job in jobs for key in job.overrides) if not key.startswith(NOT_SWEPT)]
    differing = [key for key in keys if len({json.dumps(job.value(key), sort_keys=True) for job in jobs}) > 1]
    return differing or keys


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


def _plotted(monitor: str | None) -> list[str]:
    """The monitored metric, and the same of each task."""
    if monitor is None:
        return ["val/*"]
    stage, _, metric = monitor.partition("/")
    return [monitor, f"{stage}/*/{metric}"]


def _read(path: Path) -> Job:
    problems: list[str] = []
    manifest = _load(path / "run.json", problems) or {}
    config = flatten(_load(path / "config.yaml", problems) or _load(path / ".hydra" / "config.yaml", problems) or {})
    lines = (
        manifest.get("overrides") or _load(path / ".hydra" / "overrides.yaml", problems) or []
    )  # Hydra's may be a refused job's
    overrides = dict(_parse(line) for line in lines)
    results = _load(path / "results.json", problems)
    job = Job(path.name, overrides, config)
    if results is not None:
        job.monitor = results.get("monitor")
        job.metrics = {
            name: float(v) for name, v in (results.get("metrics") or {}).items() if isinstance(v, int | float)
        }
        if job.monitor and isinstance(results.get("value"), int | float):
            job.metrics = {job.monitor: float(results["value"])} | {
                k: v for k, v in job.metrics.items() if k != job.monitor
            }
    if not job.metrics:
        parts = manifest.get("parts") or [{}]
        status = parts[-1].get("status", "never started")
        known = {"running": "still running, or killed", "finished": "finished, but left no numbers"}
        job.problem = problems[0] if problems else known.get(status, status)
    return job


def _load(path: Path, problems: list[str]) -> Any:
    """Content of a JSON or YAML file; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)  # YAML 1.1 reads 1e-05 as a word
    except (yaml.YAMLError, ValueError):
        problems.append(f"{path.name} is damaged")
        return None


def _parse(override: str) -> tuple[str, Any]:
    key, _, value = override.partition("=")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = value
    return key.lstrip("+~").split("@", 1)[0], parsed


def _order(value: Any) -> tuple[int, float, str]:
    """Sorts numbers by size, before everything else by name."""
    try:
        return 0, float(value), ""
    except (TypeError, ValueError):
        return 1, 0.0, str(value)


def _setting(job: Job, keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={job.value(key)}" for key in keys or job.overrides)


def _problem(job: Job, keys: Sequence[str]) -> str:
    return f"{job.name} ({_setting(job, keys)}): {job.problem}"


def _best(jobs: Sequence[Job], monitor: str | None) -> Job | None:
    able = [job for job in jobs if monitor in job.metrics and job.metrics[monitor] == job.metrics[monitor]]
    if not able or monitor is None:
        return None
    pick = min if able[0].config.get("monitor.mode") == "min" else max
    return pick(able, key=lambda job: job.metrics[monitor])


def _figure(jobs: Sequence[Job], keys: Sequence[str], metrics: Sequence[str], path: Path) -> Path:
    """A row per metric and a column per swept key; a line per combination of the other keys."""
    keys = list(keys) or ["job"]
    figure, axes = grid(len(metrics), len(keys), (4.2, 2.8))
    for c, key in enumerate(keys):
        values = sorted({json.dumps(_x(job, key)) for job in jobs}, key=lambda text: _order(json.loads(text)))
        places = {text: index for index, text in enumerate(values)}
        others = [other for other in keys if other != key]
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            groups.setdefault(", ".join(f"{other.rsplit('.', 1)[-1]}={_x(job, other)}" for other in others), []).append(
                job
            )
        for r, metric in enumerate(metrics):
            ax = axes[r, c]
            for label, members in groups.items():
                points = sorted(
                    (places[json.dumps(_x(job, key))], job.metrics[metric]) for job in members if metric in job.metrics
                )
                style = {"label": label} if len(groups) <= MAX_LINES else {"color": "0.7"}
                ax.plot([x for x, _ in points], [y for _, y in points], "o-", markersize=4, linewidth=1.2, **style)
            ax.set_xticks(range(len(values)), [str(json.loads(text)) for text in values], fontsize=8)
            ax.set_xlabel(key, fontsize=8)
            ax.set_title(metric, fontsize=9)
            ax.tick_params(axis="y", labelsize=8)
            ax.grid(alpha=0.3)
            if r == len(metrics) - 1 and others and len(groups) <= MAX_LINES:
                ax.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    return save(figure, path)


def _x(job: Job, key: str) -> Any:
    return job.name if key == "job" else job.value(key)
