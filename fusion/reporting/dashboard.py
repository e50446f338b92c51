"""The project's dashboard in Weights & Biases as code: a workspace and a report of a run, a sweep or a comparison.

Where nobody is logged in, the same is written as the local HTML report.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fusion.analysis.sweep_jobs import read_jobs, swept_keys
from fusion.errors import ConfigError, FusionError
from fusion.job.config import plain
from fusion.job.records import read_json
from fusion.job.sweep import group_of
from fusion.reporting.build import chosen, comparison, run_report, sweep_report
from fusion.reporting.runs import Run, read_run
from fusion.training.callbacks.loggers import has_account

EXTRA = "the package wandb-workspaces: pip install 'image-fusion[sweep]'"
PICTURES = ["val/panel"]
TABLES = ["val/scores", "val/pictures"]
NO_REPORT: dict[str, Any] = {
    "analyses": [],
    "cost": None,
    "device": "auto",
    "part": "val",
    "pairs_per_task": 1,
    "max_side": None,
}


def dashboard(cfg: DictConfig) -> str:
    """Build the workspace and the report in W&B and print their addresses; without an account write the HTML report.

    Args:
        cfg: composed configuration of conf/dashboard.yaml.

    Raises:
        FusionError: folders that hold no runs, or a package that is missing.
    """
    config = plain(cfg)
    kind = chosen(config)
    places = {name: Path(place) for name, place in config["runs"].items()} if kind == "runs" else {}
    folder = Path(config[kind]).expanduser() if kind != "runs" else Path()
    if config["local"] or not has_account():
        out = Path(config["out"]) if config.get("out") else None
        if kind == "runs":
            page = comparison(places, out or Path("report.html"))
        else:
            page = (sweep_report if kind == "sweep_dir" else run_report)(folder, out, NO_REPORT)
        why = "" if config["local"] else " (no W&B account here: wandb login)"
        print(f"report: {page}{why}")
        return str(page)
    subject = read_subject(kind, folder, places)
    workspace = build_workspace(subject, config["entity"], config["project"])
    text = build_report(subject, config["entity"], config["project"])
    try:
        workspace.save()
        text.save()
    except Exception as error:  # of the network, of rights, of names: W&B has no type for them
        line = " ".join(str(error).split())
        raise FusionError(f"W&B refuses: {line}; local=true writes the report as a file") from error
    print(f"workspace: {workspace.url}\nreport: {text.url}")
    return str(workspace.url)


class Subject:
    """What a dashboard is about.

    Attributes:
        kind: "run", "sweep_dir" or "runs".
        title: of the dashboard.
        monitor: name of the monitored metric.
        metrics: names of the validation's metrics.
        keys: swept keys.
        tasks: fusion tasks that were validated.
        filters: which runs of the project, in the language of W&B's filters.
        text: what it is, in a sentence.
    """

    def __init__(
        self, kind: str, title: str, runs: Sequence[Run], keys: Sequence[str], filters: str, text: str
    ) -> None:
        first = runs[0]
        names = [name for name in first.best()[1] if name.startswith("val/")]
        self.kind, self.title, self.keys, self.filters, self.text = kind, title, list(keys), filters, text
        self.monitor = first.monitor or (names[0] if names else "val/loss")
        self.mode = first.mode
        self.metrics = [name for name in names if name.count("/") == 1]
        self.tasks = list(dict.fromkeys(name.split("/")[1] for name in names if name.count("/") == 2))
        self.losses = [name for name in first.curves if name.startswith("train/") and name.endswith("/loss")]
        self.routing = [n for n in first.curves if n.startswith("routing/") and n.count("/") == 2]
        self.norms = [n for n in first.curves if n.startswith("norm/")]


def read_subject(kind: str, folder: Path, places: Mapping[str, Path]) -> Subject:
    """Read what a dashboard is to show.

    Raises:
        FusionError: no runs there.
    """
    if kind == "sweep_dir":
        jobs = [job for job in read_jobs(folder) if job.metrics]
        if not jobs:
            raise ConfigError(f"sweep={folder}: no job has results yet")
        runs = [read_run(folder / job.name, job.name) for job in jobs]
        group = group_of(folder)
        text = f"{len(jobs)} runs over {', '.join(swept_keys(jobs))}."
        return Subject(kind, f"Sweep {group}", runs, swept_keys(jobs), f"Metric('Group') == '{group}'", text)
    if kind == "run":
        run = read_run(folder)
        found = [_id(run)]
        return Subject(kind, run.name, [run], (), _filter(found), f"The run in {folder}.")
    runs = [read_run(place, name, f"runs.{name}") for name, place in places.items()]
    listed = ", ".join(f"{run.name} ({run.folder})" for run in runs)
    return Subject(kind, " and ".join(places), runs, (), _filter([_id(run) for run in runs]), f"Compared: {listed}.")


def build_workspace(subject: Subject, entity: str, project: str) -> Any:
    """The workspace, as an object of `wandb_workspaces`; nothing is sent."""
    ws = _packages()[0]
    sections = [
        ws.Section(name=name, panels=panels, is_open=index < 3) for index, (name, panels) in enumerate(_panels(subject))
    ]
    settings = ws.RunsetSettings(filters=subject.filters)
    return ws.Workspace(entity=entity, project=project, name=subject.title, sections=sections, runset_settings=settings)


def build_report(subject: Subject, entity: str, project: str) -> Any:
    """The report, as an object of `wandb_workspaces`; nothing is sent."""
    wr = _packages()[1]
    runset = wr.Runset(entity=entity, project=project, name=subject.title, filters=subject.filters)
    blocks: list[Any] = [wr.TableOfContents(), wr.P(text=subject.text)]
    for name, panels in _panels(subject):
        blocks += [wr.H2(text=name), wr.PanelGrid(runsets=[runset], panels=panels)]
    return wr.Report(entity=entity, project=project, title=subject.title, description=subject.text, blocks=blocks)


def _panels(subject: Subject) -> list[tuple[str, list[Any]]]:
    """Panels by section, the same for the workspace and the report."""
    wr = _packages()[1]
    step = "trainer/global_step"
    found: list[tuple[str, list[Any]]] = []
    if subject.keys:
        best = wr.SummaryMetric(f"best/{subject.monitor}")
        axes = [
            wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), display_name=_short(key)) for key in subject.keys
        ]
        axes.append(wr.ParallelCoordinatesPlotColumn(metric=best, display_name=subject.monitor))
        wide = wr.Layout(w=16, h=9)
        overview = [
            wr.ParallelCoordinatesPlot(title="settings and what they give", columns=axes, layout=wide),
            wr.ParameterImportancePlot(with_respect_to=f"best/{subject.monitor}", layout=wr.Layout(x=16, w=8, h=9)),
        ]
        overview += [
            wr.ScatterPlot(title=f"{_short(key)} and {subject.monitor}", x=wr.Config(key), y=best)
            for key in subject.keys
        ]
        found.append(("Sweep", overview))
    curves = [
        wr.LinePlot(title=metric, x=step, y=[metric, *(f"val/{task}/{_short(metric, '/')}" for task in subject.tasks)])
        for metric in subject.metrics
    ]
    by_task = [
        wr.LinePlot(title=f"{task}", x=step, y=[f"val/{task}/{_short(metric, '/')}" for metric in subject.metrics])
        for task in subject.tasks
    ]
    found.append(("Validation", [*curves, *by_task]))
    if subject.losses:
        found.append(
            ("Training", [wr.LinePlot(title="loss by task", x=step, y=subject.losses), *_one(wr, step, subject.norms)])
        )
    pictures = [wr.MediaBrowser(title="sources, fused and prompts", media_keys=PICTURES, layout=wr.Layout(w=24, h=12))]
    tables = [wr.WeavePanelSummaryTable(table_name=name, layout=wr.Layout(w=24, h=9)) for name in TABLES]
    found.append(("Pictures and scores of single pairs", [*pictures, *tables]))
    if subject.routing:
        found.append(("Routing", _one(wr, step, subject.routing)))
    if subject.kind == "runs":
        found.append(("Configurations", [wr.RunComparer(diff_only="split", layout=wr.Layout(w=24, h=10))]))
    return found


def _one(wr: Any, step: str, names: Sequence[str]) -> list[Any]:
    """A panel for each last part of the names."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    return [wr.LinePlot(title=title, x=step, y=members) for title, members in groups.items()]


def _packages() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise ConfigError(f"the dashboard needs {EXTRA}; local=true writes the report as a file") from None
    return ws, wr


def _id(run: Run) -> str:
    found = run.manifest.get("logger_id") or read_json(run.folder / "run.json").get("logger_id")
    if not found:
        raise ConfigError(f"{run.folder}: this run has no W&B run; train with logger=csv_wandb, or give local=true")
    return str(found)


def _filter(ids: Sequence[str]) -> str:
    return f"Metric('ID') in [{', '.join(repr(name) for name in ids)}]"


def _short(key: str, separator: str = ".") -> str:
    return key.rsplit(separator, 1)[-1]
