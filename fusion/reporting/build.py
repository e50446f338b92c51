"""The report of a run, of a sweep, or of several runs side by side, as one HTML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fusion.analysis.sweep import read_sweep
from fusion.errors import ConfigError, FusionError
from fusion.job.config import plain
from fusion.job.records import read_json
from fusion.pages import Section, Table, write_page
from fusion.reporting import sections as parts
from fusion.reporting.insides import KINDS, cost_section, inside_sections, load
from fusion.reporting.published import beside, experiments_dir
from fusion.reporting.runs import Run, read_run

MOST_CURVES = 8
"""Jobs of a sweep whose curves are drawn: more cannot be told apart."""


def report(cfg: DictConfig) -> Path:
    """Make the report that a configuration asks for, and print where it is.

    Args:
        cfg: composed configuration of conf/report.yaml: one of `run`, `sweep` and `runs`.

    Raises:
        FusionError: none or several of them, folders that hold no runs, or an unknown part.
    """
    config = plain(cfg)
    kind = chosen(config)
    unknown = [kind for kind in config["analyses"] if kind not in KINDS]
    if unknown:
        raise ConfigError(f"analyses={config['analyses']}: expected some of {', '.join(KINDS)}")
    path = Path(config["out"]).expanduser() if config.get("out") else None
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"out={path}: expected a file that ends in .html")
    if kind == "sweep_dir":
        written = sweep_report(Path(config["sweep_dir"]).expanduser(), path, config)
    elif kind == "run":
        written = run_report(Path(config["run"]), path, config)
    else:
        written = comparison({name: Path(place) for name, place in config["runs"].items()}, path or Path("report.html"))
    print(f"report: {written}")
    return written


def chosen(config: Mapping[str, Any]) -> str:
    """Which of `run`, `sweep_dir` and `runs` is given.

    Raises:
        ConfigError: none or several.
    """
    given = [key for key in ("run", "sweep_dir", "runs") if config.get(key)]
    if len(given) != 1:
        found = f"not {' and '.join(given)} together" if given else "none is given"
        raise ConfigError(f"give one of run=DIR, sweep=DIR, or +runs.A=DIR +runs.B=DIR; {found}")
    return given[0]


def sweep_argument(arguments: list[str]) -> list[str]:
    """Let `sweep=DIR` name a sweep's folder, although `sweep` is a group of configurations of training."""
    return [f"sweep_dir={line.split('=', 1)[1]}" if line.startswith("sweep=") else line for line in arguments]


def run_report(folder: Path, path: Path | None, options: Mapping[str, Any]) -> Path:
    """One run: what was run, scores, curves, pictures, insides, cost."""
    run = read_run(folder)
    found = [parts.what_was_run(run), parts.scores(run)]
    if run.curves or not run.summary:
        found.append(parts.curves({run.name: run}))
    found += [parts.pictures(run), *_insides(run, options)]
    return write_page(run.name, str(run.folder.absolute()), found, path or run.folder / "report.html")


def sweep_report(folder: Path, path: Path | None, options: Mapping[str, Any]) -> Path:
    """A sweep: its tables and plot, the curves of its jobs, and the run of its best setting."""
    table = read_sweep(folder, {})
    plan = read_json(folder / "sweep.json")
    best = table.best()
    chosen = best.jobs[0] if best is not None else table.jobs[0]
    labels = {entry["name"]: entry["label"] for entry in plan.get("jobs", [])}
    drawn = table.jobs
    if len(drawn) > MOST_CURVES and (monitor := table.monitor) is not None:
        worst = float("inf") if table.minimised else float("-inf")
        drawn = sorted(drawn, key=lambda job: job.metrics.get(monitor, worst), reverse=not table.minimised)
    runs = {labels.get(job.name, job.name): read_run(folder / job.name) for job in drawn[:MOST_CURVES]}
    kind = f"the best by {table.monitor}" if table.monitor is not None else "the first"
    shown = f"{len(runs)} of {len(table.jobs)} jobs, {kind}" if len(table.jobs) > len(runs) else ""
    about: list[list[Any]] = [
        ["folder", str(folder.absolute())],
        ["jobs", f"{len(table.jobs)} with results, {len(table.failed)} without"],
        ["swept", ", ".join(table.keys)],
        ["left out, cannot work", len(plan.get("dropped", [])) or None],
    ]
    details = {"overrides": "\n".join(plan["arguments"])} if plan.get("arguments") else {}
    rows = [row for row in about if row[1] is not None]
    name = str(read_run(folder / chosen.name).config.get("name") or folder.name)
    found = [
        Section("What was swept", tables=[Table(["", name], rows)], details=details),
        parts.sweep_section(table),
        parts.curves(runs, shown),
    ]
    run = read_run(folder / chosen.name)
    inner = [parts.what_was_run(run), parts.pictures(run, most=1), *_insides(run, options)]
    for section in inner:
        section.title = f"Best setting: {section.title.lower()}"
    title = f"Sweep of {name}"
    return write_page(title, str(folder.absolute()), [*found, *inner], path or folder / "report.html")


def comparison(folders: Mapping[str, Path], path: Path) -> Path:
    """Runs side by side: configurations where they differ, scores, curves, pictures."""
    runs = {name: read_run(folder, name, f"runs.{name}") for name, folder in folders.items()}
    found = [_differences(runs), _scores(runs), parts.curves(runs)]
    for name, run in runs.items():
        section = parts.pictures(run, most=1)
        section.title = f"Pictures: {name}"
        found.append(section)
    return write_page(" and ".join(runs), "comparison of runs", found, path)


def _insides(run: Run, options: Mapping[str, Any]) -> list[Section]:
    kinds = list(options["analyses"])
    if not kinds and not options["cost"]:
        return []
    if not (run.folder / "checkpoints").is_dir():
        return []  # an evaluation has none of its own
    try:
        model = load(run, options["device"])
    except FusionError as error:
        return [Section("Insides", f"Not shown: {error}")]
    found = inside_sections(run, model, kinds, options["part"], options["pairs_per_task"], options["max_side"])
    return [*found, cost_section(model, tuple(options["cost"]))] if options["cost"] else found


def _differences(runs: Mapping[str, Run]) -> Section:
    from fusion.job.config import flatten

    flat = {name: flatten(run.config) for name, run in runs.items()}
    keys = list(dict.fromkeys(key for config in flat.values() for key in config))
    skipped = ("paths.", "run_dir", "resume", "name")
    rows = [
        [key, *(str(config.get(key, "-")) for config in flat.values())]
        for key in keys
        if not key.startswith(skipped) and len({str(config.get(key)) for config in flat.values()}) > 1
    ]
    commits = [str((run.part.get("git") or {}).get("commit") or "-")[:12] for run in runs.values()]
    about = [["folder", *(str(run.folder) for run in runs.values())], ["commit", *commits]]
    tables = [Table(["", *runs], about), Table(["configuration where they differ", *runs], rows)]
    return Section("Runs", tables=tables if rows else tables[:1])


def _scores(runs: Mapping[str, Run]) -> Section:
    best = {name: {k: v for k, v in run.best()[1].items() if k.startswith("val/")} for name, run in runs.items()}
    metrics = list(dict.fromkeys(key for values in best.values() for key in values))
    tables = []
    if metrics:
        rows = [[name, run.best()[0], *(best[name].get(key) for key in metrics)] for name, run in runs.items()]
        tables.append(Table(["run", "epoch", *metrics], rows, "each run at its best epoch", wide=True))
    scored = [row | {"method": name} for name, run in runs.items() for row in _own(run)]
    if scored:
        header = list(dict.fromkeys(key for row in scored for key in row))
        tables.append(Table(header, [[row.get(key) for key in header] for row in scored], "evaluations", wide=True))
        tables += beside(scored, experiments_dir())
    return Section("Scores", "" if tables else "No scores yet.", tables=tables)


def _own(run: Run) -> list[dict[str, Any]]:
    """Rows of the run's own method: the first one of the summary."""
    first = run.summary[0]["method"] if run.summary else None
    return [row for row in run.summary if row["method"] == first]
