"""A sweep and its folder: its jobs, those done already, and the combinations that cannot work.

`sweep.json` in the folder says what the sweep is. A sweep that is started again in its folder finds its jobs by their
overrides, whatever their numbers: it skips the finished ones, goes on with the interrupted ones, tries the failed ones
again, and may have further values of the same keys.
"""

import fcntl
import random
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fusion.errors import ConfigError, FusionError
from fusion.job.records import FAILED, FINISHED, INTERRUPTED, NEW, job_state, read_json, write_json

PLAN = "sweep.json"
ORDERS = ("grid", "reverse", "random", "seeds_last")
SHORT = {"model.num_experts": "N", "model.top_k": "K", "model.tau": "tau", "seed": "s", "optimizer.lr": "lr"}
"""Keys by the letters of the papers, for labels."""
PLACES = ("run_dir", "resume", "paths.", "hydra.", "hydra/", "logger", "data.num_workers", "trainer.devices")
"""Keys that say where and with what a job runs, not what it learns: they may differ when a sweep goes on."""
SHOWN = 5


@dataclass
class Job:
    """One job of a sweep: its folder's name, its overrides, its name for people, and how far it is."""

    name: str
    overrides: list[str]
    label: str
    state: str = NEW


@dataclass
class Sweep:
    """A sweep in its folder.

    Attributes:
        folder: of the sweep; one folder per job in it.
        command: module, "fusion.train".
        arguments: of the command line, to start it again.
        jobs: those of this call, in grid order.
        dropped: combinations that cannot work, each with the reason.
        parallel: jobs that run at once.
    """

    folder: Path
    command: str
    arguments: list[str]
    jobs: list[Job] = field(default_factory=list)
    dropped: list[tuple[list[str], str]] = field(default_factory=list)
    parallel: int = 1
    earlier: list[Job] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path, command: str, arguments: Sequence[str], parallel: int = 1) -> "Sweep":
        """The sweep in a folder, new or with the jobs that are there."""
        sweep = cls(folder, command, list(arguments), parallel=parallel)
        sweep.earlier = read_jobs(folder)
        return sweep

    def add(self, overrides: list[str], keys: Sequence[str], name: Callable[[int], str] = str) -> Job:
        """The job of some overrides: the one that is there, else a new one with the next free number.

        Args:
            overrides: of the job.
            keys: those that are swept, for the label.
            name: makes a folder name of a number.
        """
        known = {job.name: job for job in [*self.earlier, *self.jobs]}
        for job in known.values():
            if identity(job.overrides) == identity(overrides):
                if job not in self.jobs:
                    self.jobs.append(job)
                job.overrides, job.label = overrides, label(overrides, keys)
                return job
        number = len(self.jobs)
        while name(number) in known and name(number) != name(number + 1):
            number += 1
        job = Job(name(number), overrides, label(overrides, keys))
        self.jobs.append(job)
        return job

    def check_same(self, keys: Sequence[str]) -> None:
        """Refuse to mix with another sweep whose jobs are in the folder already.

        Raises:
            ConfigError: other keys are swept there, or other things are fixed.
        """
        if not self.earlier or not self.jobs:
            return
        before = [identity(job.overrides) for job in self.earlier]
        old, new = before[0], identity(self.jobs[0].overrides)
        swept = {key for key in old if len({given.get(key) for given in before}) > 1}
        differing = sorted(
            key
            for key in old.keys() | new.keys()
            if old.get(key) != new.get(key) and not (key in old and key in new and (key in swept or key in keys))
        )
        if differing:
            shown = ", ".join(
                f"{key} (there {old.get(key, 'not set')}, now {_now(new, key, keys)})" for key in differing
            )
            raise ConfigError(
                f"{self.folder} holds another sweep: {shown}; give hydra.sweep.dir another folder, or the same keys"
            )

    def states(self) -> Counter[str]:
        """How many jobs are how far; also refreshes them."""
        for job in self.jobs:
            job.state = job_state(self.folder / job.name)
        return Counter(job.state for job in self.jobs)

    def save(self) -> None:
        """Write `sweep.json`, with the jobs of earlier calls too."""
        known = {job.name: job for job in [*self.earlier, *self.jobs]}
        write_json(
            self.folder / PLAN,
            {
                "command": self.command,
                "group": group_of(self.folder),
                "arguments": self.arguments,
                "parallel": self.parallel,
                "jobs": [{"name": j.name, "label": j.label, "overrides": j.overrides} for j in known.values()],
                "dropped": [{"overrides": given, "reason": reason} for given, reason in self.dropped],
            },
        )

    def describe(self, chosen: Sequence[Job]) -> str:
        """What is going to happen, as lines."""
        states = self.states()
        parts = [f"{states[FINISHED]} finished, skipped"] if states[FINISHED] else []
        parts += [f"{states[INTERRUPTED]} interrupted, going on"] if states[INTERRUPTED] else []
        parts += [f"{states[FAILED]} failed, tried again"] if states[FAILED] else []
        parts += [f"{states[NEW]} to start"] if states[NEW] else []
        lines = [f"sweep of {len(self.jobs)} jobs in {self.folder}: {'; '.join(parts)}"]
        waiting = len(self.jobs) - states[FINISHED] - len(chosen)
        if waiting > 0:
            lines.append(f"max_jobs: {len(chosen)} now, {waiting} wait for the next call")
        if self.dropped:
            total = len(self.jobs) + len(self.dropped)
            lines.append(f"left out {len(self.dropped)} of {total} combinations, which cannot work:")
            lines += [f"  {count} x {reason}" for reason, count in Counter(why for _, why in self.dropped).items()]
        return "\n".join(lines)

    def again(self) -> str:
        """The command that goes on with this sweep."""
        return f"python -m {self.command} resume={shlex.quote(str(self.folder))}"


def group_of(folder: Path) -> str:
    """Name of a sweep towards loggers, which it keeps when its folder is moved: at first the last two parts of the path."""
    recorded = read_json(folder / PLAN).get("group")
    return recorded if isinstance(recorded, str) and recorded else "/".join(folder.absolute().parts[-2:])


def read_jobs(folder: Path) -> list[Job]:
    """The jobs that a folder's `sweep.json` lists; those of a folder without one by what each of them says."""
    listed = read_json(folder / PLAN).get("jobs")
    if listed is not None:
        return [Job(entry["name"], list(entry["overrides"]), entry["label"]) for entry in listed]
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        overrides = read_json(path / "run.json").get("overrides")
        if overrides is None and (path / ".hydra" / "overrides.yaml").is_file():
            overrides = yaml.safe_load((path / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
        if overrides is not None:
            found.append(Job(path.name, list(overrides), path.name))
    return found


def to_run(sweep: Sweep, order: str = "grid", max_jobs: int | None = None) -> list[Job]:
    """Jobs that are not finished, in the order to run them, interrupted ones first.

    Args:
        sweep: with its jobs.
        order: "grid" as listed, "reverse", "random" (always the same), or "seeds_last": every setting once before any
            setting with its second seed.
        max_jobs: at most so many.

    Raises:
        ConfigError: an unknown order, or an impossible number.
    """
    if order not in ORDERS:
        raise ConfigError(f"hydra.sweeper.order={order}: expected one of {', '.join(ORDERS)}")
    if max_jobs is not None and max_jobs < 1:
        raise ConfigError(f"hydra.sweeper.max_jobs={max_jobs}: expected at least 1, or null for all jobs")
    sweep.states()
    jobs = [job for job in sweep.jobs if job.state != FINISHED]
    if order == "reverse":
        jobs.reverse()
    elif order == "random":
        random.Random(0).shuffle(jobs)
    elif order == "seeds_last":
        seeds = list(dict.fromkeys(identity(job.overrides).get("seed", "") for job in sweep.jobs))
        jobs.sort(key=lambda job: seeds.index(identity(job.overrides).get("seed", "")))
    jobs.sort(key=lambda job: job.state != INTERRUPTED)
    return jobs[:max_jobs]


def drop_impossible(
    sweep: Sweep, combinations: Iterable[list[str]], check: Callable[[list[str]], None]
) -> list[list[str]]:
    """Combinations that can work; the others are noted in `sweep.dropped`.

    Args:
        sweep: takes the notes.
        combinations: overrides of each job.
        check: raises a FusionError for a job that cannot work.

    Raises:
        FusionError: none of them can.
    """
    possible = []
    error: FusionError | None = None
    for overrides in combinations:
        try:
            check(overrides)
            possible.append(overrides)
        except FusionError as found:
            error = error or found
            sweep.dropped.append((overrides, " ".join(str(found).split())))
    if error is not None and not possible:
        count = len(sweep.dropped)
        raise ConfigError(f"{sweep.dropped[0][1]}" + (f" (so none of the {count} jobs can work)" if count > 1 else ""))
    return possible


def identity(overrides: Iterable[str]) -> dict[str, str]:
    """What makes a job this job: its keys with their values, without those that only say where it runs."""
    pairs = (line.partition("=") for line in overrides)
    return {key.lstrip("+~"): value for key, _, value in pairs if not key.lstrip("+~").startswith(PLACES)}


def label(overrides: Iterable[str], keys: Sequence[str]) -> str:
    """A name that says what differs, such as `N4 K2 tau4 s0`; the seed comes last."""
    values = identity(overrides)
    parts = []
    for key in sorted(keys, key=lambda key: key == "seed"):
        value = _shorten(values.get(key.lstrip("+~"), ""))
        name = SHORT.get(key.lstrip("+~"))
        parts.append(f"{name}{value}" if name else f"{key.rsplit('/', 1)[-1].rsplit('.', 1)[-1]}={value}")
    return " ".join(parts) or "all"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a sweep's folder: two processes must not drive one sweep.

    Raises:
        ConfigError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".sweep.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{folder}: another process is running this sweep; wait for it, or stop it") from None
        yield


def _shorten(value: str) -> str:
    try:
        return f"{float(value):.3g}" if len(value) > 8 else value
    except ValueError:
        return value


def _now(new: Mapping[str, str], key: str, keys: Sequence[str]) -> Any:
    return "swept" if key in keys else new.get(key, "not set")
