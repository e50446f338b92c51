"""A sweep as a lab has it: 2 x 2 x 2 settings with two seeds, killed three times, started again, finished, read back.

python experiments/lab/proof.py [--out logs/lab] [--record experiments/lab]

Writes `checks.csv` (a row per claim), the sweep's table and figure, reports as HTML and, where Chromium is installed, as
pictures. Exit status 1 if a claim does not hold. About five minutes of one core.
"""

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
import wandb_checks

from fusion.job.records import job_state, read_json
from fusion.reporting.dashboard import build_report, build_workspace, read_subject

SETTINGS = {"model.num_experts": "2,4", "model.top_k": "1,2", "model.tau": "2,4", "seed": "0,1"}
JOBS = 16
STEPS = 6
FIXED = [
    "model=tcmoa_tiny", "model.weights=null", "data=samples", "data.prepare.height=112", "data.prepare.width=144",
    "data.prepare.train_pairs=4", "data.prepare.test_pairs=2", "data.crop_size=112", "data.rounds_per_epoch=1",
    "data.batch_size=1", "trainer=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "optimizer.lr=1e-3",
    "scheduler.warmup_epochs=0", "callbacks.last.every_n_train_steps=2", "callbacks.board.artifacts=true",
    "logger.wandb.mode=offline",
]  # fmt: skip
POLL, LIMIT = 0.1, 1800.0


class Claims:
    """What was claimed, what was found, and whether it holds; printed as it comes."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, claim: str, holds: Any, found: Any = "") -> None:
        """Note a claim."""
        self.rows.append({"claim": claim, "holds": "yes" if holds else "NO", "found": str(found)})
        print(f"{self.rows[-1]['holds']:3} {claim}: {found}", flush=True)


class Sweep:
    """The sweep's processes, each in a process group of its own, with a temporary folder of their own."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder, self.temp = out, out / "sweep", out / "temp"
        self.fixed = [*FIXED, f"paths.data_dir={out / 'data'}"]
        self.temp.mkdir(parents=True)

    def start(self, number: int, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Start the command, with its output in `call<number>.log`."""
        log = (self.out / f"call{number}.log").open("wb")
        environment = os.environ | {"TMPDIR": str(self.temp)}
        command = [sys.executable, "-m", "fusion.train", *arguments]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def states(self) -> list[str]:
        """State of every job."""
        return [job_state(self.folder / str(number)) for number in range(JOBS)]

    def said(self, number: int) -> str:
        """What a call printed."""
        return (self.out / f"call{number}.log").read_text(encoding="utf-8")

    def step_of(self, job: int) -> int:
        """Steps that a job has logged."""
        path = self.folder / str(job) / "metrics.csv"
        if not path.is_file():
            return -1
        with path.open(newline="", encoding="utf-8") as file:
            return max((int(row["step"]) for row in csv.DictReader(file) if (row["step"] or "").isdigit()), default=-1)


def main() -> int:
    """Run everything; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("logs/lab"), help="folder of the proof; must not exist")
    parser.add_argument("--record", type=Path, help="folder that gets checks.csv, sweep_settings.csv and sweep.png")
    given = parser.parse_args()
    out = given.out.absolute()
    if out.exists():
        print(f"error: --out {out} exists; remove it or choose another", file=sys.stderr)
        return 2
    claims, sweep = Claims(), Sweep(out)
    kill_and_finish(sweep, claims)
    return look(sweep, out, claims, given.record)


def look(sweep: Sweep, out: Path, claims: Claims, record: Path | None) -> int:
    """Everything that needs the finished sweep; a step that breaks is a claim that does not hold, and the others are made."""
    steps: dict[str, Callable[[], None]] = {
        "an undisturbed run": lambda: same_as_undisturbed(sweep, claims),
        "files of W&B": lambda: wandb_checks.check(sweep.folder, sweep.temp, claims.add),
        "dashboard": lambda: dashboard(sweep.folder, out, claims),
        "reports": lambda: reports(sweep, out, claims),
    }
    for name, step in steps.items():
        try:
            step()
        except Exception as error:
            claims.add(f"{name}: looked at", False, f"{type(error).__name__}: {error}")
    write(claims, out / "checks.csv")
    if record is not None:
        for path in (out / "checks.csv", sweep.folder / "sweep_settings.csv", sweep.folder / "sweep.png"):
            shutil.copy(path, record)
    return 0 if all(row["holds"] == "yes" for row in claims.rows) else 1


def kill_and_finish(sweep: Sweep, claims: Claims) -> None:
    """Two kills without warning, a third with one, and the call that finishes."""
    swept = [f"{key}={values}" for key, values in SETTINGS.items()]
    first = ["-m", *sweep.fixed, *swept, f"hydra.sweep.dir={sweep.folder}"]
    again = [f"resume={sweep.folder}"]
    kept: dict[Path, bytes] = {}
    for number, (arguments, job, ready, sent) in enumerate(
        (
            (first, 3, lambda: sweep.step_of(3) >= 2, signal.SIGKILL),  # between two checkpoints
            (again, 8, lambda: read_json(sweep.folder / "8" / "run.json"), signal.SIGKILL),  # before its first one
            (again, 12, lambda: sweep.step_of(12) >= 2, signal.SIGTERM),
        ),
        1,
    ):
        process = sweep.start(number, arguments)
        wait(process, ready)
        os.killpg(process.pid, sent)
        code = process.wait()
        expected = -signal.SIGKILL if sent == signal.SIGKILL else 128 + signal.SIGTERM
        states = sweep.states()
        claims.add(
            f"call {number} ended by {sent.name} in job {job}",
            code == expected
            and states[:job] == ["finished"] * job
            and states[job] == "interrupted"
            and set(states[job + 1 :]) == {"new"},
            f"status {code}; {', '.join(f'{states.count(s)} {s}' for s in dict.fromkeys(states))}",
        )
        same = [path for path, content in kept.items() if path.read_bytes() == content]
        if kept:
            claims.add(f"call {number} left finished jobs as they were", len(same) == len(kept), f"{len(same)} files")
        files = (path for n in range(job) for path in (sweep.folder / str(n)).iterdir() if path.is_file())
        kept |= {path: path.read_bytes() for path in files}
    process = sweep.start(4, again)
    code = process.wait(LIMIT)
    claims.add("call 4 finished", code == 0 and sweep.states() == ["finished"] * JOBS, f"status {code}")
    for number, job, how in ((2, 3, "goes on where it stopped"), (3, 8, "starts anew"), (4, 12, "goes on where")):
        line = next((line for line in sweep.said(number).splitlines() if line.startswith(f"job {job}:")), "")
        claims.add(f"call {number} says what it does with job {job}", how in line, line)
    results = [read_json(sweep.folder / str(number) / "results.json") for number in range(JOBS)]
    claims.add("every job made all its steps", {r["global_step"] for r in results} == {STEPS}, f"{STEPS} steps")
    parts = {n: [p["status"] for p in read_json(sweep.folder / str(n) / "run.json")["parts"]] for n in range(JOBS)}
    told = {n: states for n, states in parts.items() if len(states) > 1}
    claims.add("records of the jobs that were stopped", set(told) == {3, 12}, told)
    made = ("sweep.csv", "sweep_settings.csv", "sweep.md", "sweep.png")
    claims.add("table and figure lie in the folder", all((sweep.folder / f).is_file() for f in made), ", ".join(made))


def wait(process: subprocess.Popen[bytes], ready: Callable[[], Any]) -> None:
    """Wait until something has happened.

    Raises:
        RuntimeError: the process ended before, or it takes too long.
    """
    end = time.monotonic() + LIMIT
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the sweep ended with {process.poll()} before it could be stopped; see its log")
        time.sleep(POLL)


def same_as_undisturbed(sweep: Sweep, claims: Claims) -> None:
    """Job 3, killed between two checkpoints, against the same run without a kill."""
    folder = sweep.folder / "3"
    overrides = [line for line in read_json(folder / "run.json")["overrides"] if not line.startswith("logger.")]
    alone = sweep.out / "undisturbed"
    code = sweep.start(5, [*overrides, "logger=csv", f"run_dir={alone}"]).wait(LIMIT)
    ours, theirs = (
        torch.load(place / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for place in (folder, alone)
    )
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    claims.add(
        "weights of the killed job 3 equal those of an undisturbed run", code == 0 and equal, f"{len(ours)} tensors"
    )
    values = [read_json(place / "results.json")["metrics"] for place in (folder, alone)]
    validation = [{key: value for key, value in found.items() if key.startswith("val/")} for found in values]
    claims.add("and so do its scores", validation[0] == validation[1], f"{len(validation[0])} numbers")


def dashboard(folder: Path, out: Path, claims: Claims) -> None:
    """The workspace and the report of the sweep, built while no connection can be opened."""
    with no_network() as tried:
        subject = read_subject("sweep_dir", folder, {})
        workspace, report = build_workspace(subject, "team", "fusion"), build_report(subject, "team", "fusion")
        text = workspace._to_model().model_dump_json(by_alias=True)
    (out / "workspace.json").write_text(text, encoding="utf-8")
    panels = {section.name: [type(panel).__name__ for panel in section.panels] for section in workspace.sections}
    for section, kinds in panels.items():
        claims.add(f"workspace: {section}", kinds, ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds)))
    claims.add("report of W&B: blocks", len(report.blocks) > 2, f"{len(report.blocks)} blocks")
    claims.add("both were built without a network", not tried, subject.filters)


@contextmanager
def no_network() -> Iterator[list[Any]]:
    """Refuse connections to other machines, and note who asked for one."""
    import socket

    tried: list[Any] = []

    def refuse(self: Any, address: Any) -> None:
        tried.append(address)
        raise OSError("no network here")

    before = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[method-assign]
    try:
        yield tried
    finally:
        socket.socket.connect = before  # type: ignore[method-assign]


def reports(sweep: Sweep, out: Path, claims: Claims) -> None:
    """HTML reports of the sweep and of one run, and pictures of them where Chromium is installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    for name, subject in (("sweep", f"sweep={sweep.folder}"), ("run", f"run={sweep.folder / '15'}")):
        page = out / f"{name}.html"
        command = [sys.executable, "-m", "fusion.report", subject, f"out={page}", "pairs_per_task=1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        away = [mark for mark in ('src="http', 'href="http', 'src="//', "<script src") if mark in text]
        claims.add(f"report of the {name} is one file without links", text and not away, f"{len(text) / 1e6:.1f} MB")
        claims.add(f"report of the {name}: every part is shown", "Not shown" not in text, done.stderr.strip() or "yes")
        if browser is None:
            print("not opened: no Chromium here")
            continue
        shot = out / f"{name}_report.png"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,5200", f"--screenshot={shot}"]
        subprocess.run([browser, *options, page.as_uri()], capture_output=True, check=False)
        claims.add(f"Chromium opens the report of the {name}", shot.is_file(), shot.name)


def write(claims: Claims, path: Path) -> None:
    """Write the claims as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["claim", "holds", "found"])
        writer.writeheader()
        writer.writerows(claims.rows)
    failed = [row["claim"] for row in claims.rows if row["holds"] != "yes"]
    print(json.dumps({"claims": len(claims.rows), "failed": failed}))


if __name__ == "__main__":
    sys.exit(main())
