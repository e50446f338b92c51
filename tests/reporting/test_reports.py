"""Reports of runs, sweeps and comparisons, the dashboard's objects, and the ledger."""

import base64
import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fusion.errors import ConfigError, DataError
from fusion.job.measured import record
from fusion.pages import Picture, Section, Table, image_file, write_page
from fusion.reporting import build
from fusion.reporting.build import comparison, run_report, sweep_argument, sweep_report
from fusion.reporting.curves import draw_curves, panels
from fusion.reporting.dashboard import build_report, build_workspace, read_subject
from fusion.reporting.published import beside, entries, experiments_dir, of_experiment
from fusion.reporting.runs import read_run

QUICK = {"analyses": [], "cost": None, "device": "cpu", "part": "val", "pairs_per_task": 1, "max_side": 64}


class Page(HTMLParser):
    """Headings, cells and picture sources of a page; fails on tags that are left open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.headings: list[str] = []
        self.cells: list[str] = []
        self.sources: list[str] = []
        self.feed(self.text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        elif tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            {"h2": self.headings, "td": self.cells}.get(self.open[-1], []).append(data.strip())


def make_run(folder: Path, seed: int, experts: int, quality: float) -> Path:
    """A run as training leaves it: two validations, the first one better in SSIM, the second in Q_abf."""
    (folder / "images").mkdir(parents=True)
    overrides = ["experiment=tcmoa_large", f"model.num_experts={experts}", f"seed={seed}"]
    part = {"status": "finished", "command": ["python", "train.py"], "git": {"commit": "abc" * 13, "dirty": False}}
    part["hardware"] = {"host": "here", "cpus": 2, "gpus": []}
    (folder / "run.json").write_text(
        json.dumps({"name": "tiny", "overrides": overrides, "logger_id": f"id{seed}{experts}", "parts": [part]})
    )
    (folder / "config.yaml").write_text(
        f"name: tiny\nmonitor: {{metric: val/qabf, mode: max}}\nmodel: {{num_experts: {experts}}}\nseed: {seed}\n"
    )
    metrics = {"val/qabf": quality, "val/vif/qabf": quality, "val/ssim": 0.4, "val/vif/ssim": 0.4}
    best = {"epoch": 1, "step": 6, "metrics": metrics}
    (folder / "results.json").write_text(
        json.dumps(
            {"value": quality, "monitor": "val/qabf", "epoch": 2, "global_step": 6, "best": best, "metrics": metrics}
        )
    )
    lines = ["step,epoch,train/vif/loss,val/qabf,val/vif/qabf,val/ssim,norm/gradient,routing/vif/entropy"]
    lines += ["2,0,0.9,0.3,0.3,0.5,1.0,0.9", f"5,1,0.5,{quality},{quality},0.4,0.7,0.8", "6,1,0."]  # half a line
    (folder / "metrics.csv").write_text("\n".join(lines))
    Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "images" / "epoch_0001.png")
    return folder


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    """Two seeds of two numbers of experts."""
    folder = tmp_path / "lab" / "sweep"
    jobs = []
    for number, (experts, seed) in enumerate([(2, 0), (2, 1), (4, 0), (4, 1)]):
        make_run(folder / str(number), seed, experts, 0.5 + experts / 100 + seed / 50)
        jobs.append({"name": str(number), "label": f"N{experts} s{seed}", "overrides": []})
    (folder / "sweep.json").write_text(
        json.dumps({"jobs": jobs, "arguments": ["model.num_experts=2,4"], "dropped": []})
    )
    return folder


def test_a_run_report_is_one_file_that_needs_nothing(tmp_path: Path) -> None:
    page = Page(run_report(make_run(tmp_path / "run", 0, 4, 0.61), None, QUICK))
    assert page.headings == ["Run", "Scores", "Curves", "Pictures"]
    assert "abcabcabcabc" in page.cells and "here, 2 processors, no GPU" in page.cells and "0.6100" in page.cells
    assert "published: TC-MoA, Table 1, VIF on LLVIP" in page.text  # the experiment's own rows
    assert not re.search(r"(src|href)=\"(http|//)", page.text) and "<script" not in page.text
    assert [source.split(",")[0] for source in page.sources] == ["data:image/svg+xml;base64", "data:image/png;base64"]
    assert b"<svg" in base64.b64decode(page.sources[0].split(",")[1])


def test_a_sweep_report_has_means_every_job_and_the_best_run(swept: Path) -> None:
    page = Page(sweep_report(swept, None, QUICK))
    assert page.headings == ["What was swept", "Sweep", "Curves", "Best setting: run", "Best setting: pictures"]
    assert "0.5500 ± 0.0141" in page.cells and "0.4000 ± 0.0000" in page.cells
    assert re.search(r"class=\"\s*marked\">0\.5500 ± 0\.0141", page.text)  # the best setting stands out
    assert "4 with results, 0 without" in page.cells


def test_the_curves_of_a_large_sweep_are_those_of_its_best_jobs(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[str]] = []
    real = build.parts.curves
    monkeypatch.setattr(build.parts, "curves", lambda runs, shown: drawn.append(list(runs)) or real(runs, shown))
    assert "by step; " not in Page(sweep_report(swept, None, QUICK)).text
    monkeypatch.setattr(build, "MOST_CURVES", 2)
    assert "by step; 2 of 4 jobs, the best by val/" in Page(sweep_report(swept, None, QUICK)).text
    assert drawn == [["N2 s0", "N2 s1", "N4 s0", "N4 s1"], ["N4 s1", "N2 s1"]]


def test_runs_are_compared_where_they_differ(tmp_path: Path) -> None:
    folders = {"Few": make_run(tmp_path / "a", 0, 2, 0.5), "Many": make_run(tmp_path / "b", 0, 8, 0.6)}
    page = Page(comparison(folders, tmp_path / "compared.html"))
    assert page.headings == ["Runs", "Scores", "Curves", "Pictures: Few", "Pictures: Many"]
    assert "model.num_experts" in page.cells and "seed" not in page.cells


def test_the_command_takes_one_subject(door: Callable[..., Any], tmp_path: Path, swept: Path) -> None:
    out = tmp_path / "page.html"
    done = door("report", f"sweep={swept}", f"out={out}", "analyses=[]", "cost=null")
    assert done.status == 0 and done.out.strip() == f"report: {out}" and out.is_file()
    for arguments, said in (
        ([], "give one of run=DIR, sweep=DIR, or +runs.A=DIR +runs.B=DIR; none is given"),
        ([f"run={swept / '0'}", f"sweep={swept}"], "not run and sweep_dir together"),
        (
            [f"run={swept}"],
            "no run in it (none of run.json, results.json, metrics.csv, summary.csv); give a sweep as sweep=",
        ),
        ([f"run={tmp_path / 'none'}"], "no such folder"),
        ([f"run={swept / '0'}", "out=page.pdf"], "expected a file that ends in .html"),
        ([f"run={swept / '0'}", "analyses=[routng]"], "expected some of routing, prompts, bias"),
    ):
        refused = door("report", *arguments)
        assert refused.status == 2 and said in refused.err.strip().splitlines()[-1]
    assert sweep_argument(["sweep=a", "run=b"]) == ["sweep_dir=a", "run=b"]


def test_text_is_escaped_and_large_pictures_shrink(tmp_path: Path) -> None:
    Image.fromarray((torch.rand(30, 2500, 3) * 255).byte().numpy()).save(tmp_path / "wide.png")
    picture = image_file(tmp_path / "wide.png", "<b>")
    section = Section(
        "A & B", tables=[Table(["x"], [["<script>"], [None], [1.25]])], pictures=[picture, Picture("data:,")]
    )
    page = Page(write_page("t", "s", [section], tmp_path / "page.html"))
    assert page.cells == ["<script>", "-", "1.2500"] and "<script>" not in page.text
    with Image.open(__import__("io").BytesIO(base64.b64decode(picture.source.split(",")[1]))) as shown:
        assert shown.size[0] == 2000


def test_curves_are_grouped_by_metric() -> None:
    names = [
        "val/vif/qabf",
        "val/qabf",
        "train/vif/loss",
        "lr-AdamW",
        "routing/vif/enc/dead",
        "routing/vif/dead",
        "epoch",
    ]
    assert list(panels(names)) == ["val/qabf", "train/loss", "learning rate", "routing/dead"]
    assert draw_curves({"one": {}}) is None
    figure = draw_curves({"one": {"val/qabf": [(0, 0.1), (3, 0.2)]}, "two": {"val/qabf": [(0, 0.3)]}})
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["one all tasks", "two all tasks"]


def test_published_numbers_stand_beside_measured_ones() -> None:
    folder = experiments_dir()
    assert folder is not None and all(
        (folder / e["published"]).is_file() for e in entries(folder) if e.get("published")
    )
    rows = [{"dataset": "MFIF", "method": "mine", "pairs": 63.0, "nmi@mefb": 0.9, "qabf": 0.7}]
    (table,) = beside(rows, folder)
    assert table.header == ["method", "", "nmi@mefb"] and table.rows[-1] == ["mine", "measured", 0.9]
    assert ["IFCNN", "published", 0.847] in table.rows and "measured on 63 pairs" in table.caption
    assert beside([{"dataset": "other", "method": "m", "pairs": 1}], folder) == []
    assert of_experiment("tcmoa_base", folder) and not of_experiment("nothing", folder) and not of_experiment("x", None)


def test_dashboards_are_built_without_a_network(swept: Path) -> None:
    subject = read_subject("sweep_dir", swept, {})
    assert subject.filters == "Metric('Group') == 'lab/sweep'" and subject.keys == ["model.num_experts", "seed"]
    workspace = build_workspace(subject, "team", "fusion")
    assert [section.name for section in workspace.sections] == [
        "Sweep", "Validation", "Training", "Pictures and scores of single pairs", "Routing"
    ]  # fmt: skip
    kinds = [type(panel).__name__ for panel in workspace.sections[0].panels]
    assert kinds == ["ParallelCoordinatesPlot", "ParameterImportancePlot", "ScatterPlot", "ScatterPlot"]
    axes = [str(column.metric.name) for column in workspace.sections[0].panels[0].columns]
    assert axes == ["model.num_experts", "seed", "best/val/qabf"]
    assert json.loads(workspace._to_model().model_dump_json(by_alias=True))["displayName"] == "Sweep lab/sweep"
    report = build_report(subject, "team", "fusion")
    assert [type(block).__name__ for block in report.blocks][:4] == ["TableOfContents", "P", "H2", "PanelGrid"]
    compared = read_subject("runs", Path(), {"A": swept / "0", "B": swept / "2"})
    assert compared.filters == "Metric('ID') in ['id02', 'id04']"
    assert [section.name for section in build_workspace(compared, "", "fusion").sections][-1] == "Configurations"


def test_without_an_account_the_dashboard_is_the_local_report(
    door: Callable[..., Any], swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    done = door("dashboard", f"sweep={swept}")
    assert (
        done.status == 0 and done.out.strip() == f"report: {swept / 'report.html'} (no W&B account here: wandb login)"
    )
    assert Page(swept / "report.html").headings[:2] == ["What was swept", "Sweep"]


def test_folders_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run in it"):
        read_run(tmp_path)


def test_measured_rows_keep_their_origin_and_replace_their_likes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fusion/evaluate.py", "data=mfif"])
    path = tmp_path / "measured" / "t.csv"
    record(
        path,
        [{"method": "a", "dataset": "D", "qabf": 0.1}, {"method": "b", "dataset": "D", "qabf": 0.2}],
        ("method", "dataset"),
    )
    record(path, [{"method": "a", "dataset": "D", "qabf": 0.3, "ssim": 0.4}], ("method", "dataset"))
    header, *lines = path.read_text().splitlines()
    assert header == "method,dataset,qabf,ssim,hardware,commit,date,command"
    assert [line.split(",")[:4] for line in lines] == [["b", "D", "0.2", ""], ["a", "D", "0.3", "0.4"]]
    assert all(line.endswith("python -m fusion.evaluate data=mfif") for line in lines)
    with pytest.raises(ConfigError, match="expected the name of a .csv file"):
        record(tmp_path / "t.txt", [], ())
