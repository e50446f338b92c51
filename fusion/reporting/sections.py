"""The sections of a report."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fusion.analysis.sweep import Table as SweepTable
from fusion.analysis.sweep import as_markdown, choose, plotted
from fusion.analysis.sweep_figure import sweep_figure
from fusion.pages import Section, Table, figure, image_file
from fusion.reporting.curves import draw_curves
from fusion.reporting.published import beside, experiments_dir, of_experiment
from fusion.reporting.runs import Run


def what_was_run(run: Run) -> Section:
    """Command, commit, machine, times; overrides and the whole configuration folded."""
    part = run.part
    git = part.get("git") or {}
    hardware = part.get("hardware") or {}
    commit = f"{git['commit'][:12]}{' with local changes' if git.get('dirty') else ''}" if git.get("commit") else None
    gpus = ", ".join(hardware.get("gpus") or []) or "no GPU"
    machine = f"{hardware.get('host')}, {hardware.get('cpus')} processors, {gpus}" if hardware else None
    versions = ", ".join(f"{name} {number}" for name, number in (part.get("versions") or {}).items())
    command = part.get("command") or []
    rows: list[list[Any]] = [
        ["folder", str(run.folder)],
        ["status", part.get("status")],
        ["parts", str(len(run.manifest.get("parts") or [])) if run.manifest.get("parts") else None],
        ["started", (run.manifest.get("parts") or [{}])[0].get("started")],
        ["ended", part.get("ended")],
        ["epochs, steps", _counts(run)],
        ["commit", commit],
        ["machine", machine],
        ["versions", versions or None],
    ]
    details = {}
    if command:
        details["command"] = shlex.join(str(word) for word in command)
    if run.manifest.get("overrides"):
        details["overrides"] = "\n".join(run.manifest["overrides"])
    if run.config:
        details["configuration"] = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    return Section("Run", tables=[Table(["", run.name], [row for row in rows if row[1] is not None])], details=details)


def curves(runs: Mapping[str, Run], shown: str = "") -> Section:
    """Losses, metrics, learning rate, norms and routing over the steps; `shown` says which runs these are, if not all."""
    drawn = draw_curves({name: run.curves for name, run in runs.items()})
    if drawn is None:
        return Section("Curves", "None: no metrics.csv with numbers (logger=csv writes it).")
    caption = "validation, training losses, learning rate and norms by step" + (f"; {shown}" if shown else "")
    return Section("Curves", pictures=[figure(drawn, caption)])


def scores(run: Run) -> Section:
    """Scores at the best epoch by task, the evaluation's means, and published numbers beside them."""
    tables = []
    epoch, metrics = run.best()
    if rows := by_task(metrics):
        which = f"epoch {epoch}, the best by {run.monitor}" if epoch is not None else "the last epoch"
        tables.append(Table(rows[0], rows[1:], f"validation at {which}", wide=True))
    tests = {key: value for key, value in (run.results.get("metrics") or {}).items() if key.startswith("test/")}
    if rows := by_task(tests, "test"):
        tables.append(Table(rows[0], rows[1:], "test, weights of the best epoch", wide=True))
    if run.summary:
        header = list(run.summary[0])
        means = [[_whole(key, row[key]) for key in header] for row in run.summary]
        tables.append(Table(header, means, "means per data set and method", wide=True))
        tables += beside(run.summary, experiments_dir())
    experiment = str(run.manifest.get("experiment") or _experiment(run))
    published = of_experiment(experiment, experiments_dir()) if experiment else []
    note = ""
    if published and not run.summary:
        note = (
            f"Published numbers are means over the papers' test sets; score this run on them with "
            f"python -m fusion.evaluate ckpt_path={run.folder} data=NAME suite=NAME."
        )
    return Section("Scores", note or ("" if tables else "No scores yet."), tables=[*tables, *published])


def pictures(run: Run, most: int = 2) -> Section:
    """The latest panels of the validation, and the contact sheet of an evaluation."""
    panels = sorted((run.folder / "images").glob("epoch_*.png"))
    shown = [panels[0], panels[-1]][-most:] if len(panels) > 1 else panels
    found = [
        image_file(path, f"validation pairs after epoch {int(path.stem.rsplit('_', 1)[-1]) + 1}") for path in shown
    ]
    if (sheet := run.folder / "contact_sheet.png").is_file():
        found.append(image_file(sheet, "pairs of every task with what the model made of them"))
    return Section("Pictures", "" if found else "None: the run wrote no panels (callbacks.images).", pictures=found)


def sweep_section(table: SweepTable, metrics: Sequence[str] | None = None) -> Section:
    """Means over the seeds, every job, and the curves of TC-MoA's Fig. 8."""
    shown = choose(table.jobs, metrics, [*([table.monitor] if table.monitor else []), "val/*", "test/*"], "metrics")
    tables = []
    best = table.best()
    if table.averaged:
        keys = [key for key in table.keys if key not in table.averaged]
        rows = [
            [*setting.values.values(), len(setting.jobs), *(_spread(setting.mean(m), setting.std(m)) for m in shown)]
            for setting in table.settings
        ]
        marks = {(table.settings.index(best), len(keys) + 1)} if best is not None else set()
        caption = f"mean ± standard deviation over {', '.join(table.averaged)}"
        tables.append(Table([*keys, "jobs", *shown], rows, caption, marks=marks, wide=True))
    rows = [
        [job.name, *(str(job.value(key)) for key in table.keys), job.epoch, *(job.metrics.get(m) for m in shown)]
        for job in table.jobs
    ]
    which = f"the best epoch by {table.monitor}" if table.epoch == "best" and table.monitor else "the last epoch"
    tables.append(Table(["job", *table.keys, "epoch", *shown], rows, f"every job at {which}", wide=True))
    if table.failed:
        failed = [[job.name, job.problem] for job in table.failed]
        tables.append(Table(["job", "without results because"], failed))
    drawn = choose(table.jobs, None, plotted(table.monitor), "plot")
    picture = figure(sweep_figure(table.jobs, table.keys, drawn, table.averaged), "scores against the swept values")
    rows_of_text = [
        {"job": j.name} | {k: j.value(k) for k in table.keys} | {"epoch": j.epoch} | j.metrics for j in table.jobs
    ]
    text = {"as Markdown": as_markdown(table, shown, [{m: None for m in shown} | row for row in rows_of_text])}
    return Section("Sweep", tables=tables, pictures=[picture], details=text)


def by_task(metrics: Mapping[str, float], stage: str = "val") -> list[list[Any]]:
    """`<stage>/<task>/<metric>` as rows of tasks under a header of metrics, the mean over the tasks last."""
    cells: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        parts = key.split("/")
        if parts[0] == stage and len(parts) in (2, 3):
            cells.setdefault(parts[1] if len(parts) == 3 else "all tasks", {})[parts[-1]] = value
    names = list(dict.fromkeys(name for row in cells.values() for name in row))
    tasks = sorted(cells, key=lambda task: (task == "all tasks", task))
    return [["task", *names], *([task, *(cells[task].get(name) for name in names)] for task in tasks)] if cells else []


def _spread(mean: float | None, std: float | None) -> Any:
    return mean if std is None or mean is None else f"{mean:.4f} ± {std:.4f}"


def _whole(key: str, value: Any) -> Any:
    return int(value) if key == "pairs" and isinstance(value, float) else value


def _counts(run: Run) -> str | None:
    epoch, step = run.results.get("epoch"), run.results.get("global_step")
    return f"{epoch}, {step}" if epoch is not None else None


def _experiment(run: Run) -> str:
    chosen = [line.split("=", 1)[1] for line in run.manifest.get("overrides") or [] if line.startswith("experiment=")]
    return chosen[-1] if chosen else ""
