"""How a sweep runs: compose and check every job first, then hand them to Hydra's launcher, then say what became of them."""

import importlib.util
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict

from fusion.errors import ConfigError
from fusion.job.plugins import load_plugins
from fusion.job.recorded import of_sweep
from fusion.job.records import FINISHED, INTERRUPTED, NEW
from fusion.job.sweep import Job, Sweep, drop_impossible, locked, to_run

EXTRAS = {"hydra_joblib_launcher": "sweep", "hydra_submitit_launcher": "slurm"}
"""Packages of launchers, and the extra that installs each."""


class Driver:
    """What a sweeper drives: the launcher, the composition of jobs, and the task with its check.

    Args:
        hydra_context: of Hydra.
        task: the command as a `fusion.job.cli.Task`.
        config: of the sweep, with the `hydra` node.

    Raises:
        ConfigError: the launcher's package is missing.
    """

    def __init__(self, hydra_context: Any, task: Any, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task, config
        self.folder = Path(str(config.hydra.sweep.dir))
        target = str(config.hydra.launcher._target_)
        package = target.split(".")[1] if target.startswith("hydra_plugins.") else None
        if package is not None and importlib.util.find_spec(f"hydra_plugins.{package}") is None:
            name, extra = package.replace("_", "-"), EXTRAS.get(package)
            install = f"'image-fusion[{extra}]'" if extra else name
            raise ConfigError(f"hydra/launcher needs the package {name}: pip install {install}")
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task, config=config
        )

    @property
    def parallel(self) -> int:
        """Jobs that the launcher runs at once."""
        node = self.config.hydra.launcher
        count = next((node[key] for key in ("n_jobs", "array_parallelism") if node.get(key)), 1)
        return max(1, int(count)) if "basic" not in str(node._target_) else 1

    def parse(self, params: Mapping[str, Any], arguments: Sequence[str]) -> list[Override]:
        """Overrides of the configuration's `params` and of the command line, the latter last."""
        given = {line.split("=", 1)[0].lstrip("+~") for line in arguments}
        lines = [f"{key}={value}" for key, value in params.items() if key not in given]
        return OverridesParser.create(config_loader=self.context.config_loader).parse_overrides([*lines, *arguments])

    def compose(self, overrides: Sequence[str], number: int = 0) -> DictConfig:
        """The configuration of one job."""
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config

    def check(self, overrides: Sequence[str]) -> None:
        """Refuse a job that cannot work, before anything starts.

        Raises:
            FusionError: says why.
        """
        config = self.compose(overrides)
        if self.task.check is not None:
            with open_dict(config):
                hydra = config.pop("hydra")
            try:
                load_plugins(OmegaConf.select(config, "imports"))
                self.task.check(config)
            finally:
                with open_dict(config):
                    config.hydra = hydra

    def folder_name(self, overrides: Sequence[str], number: int) -> str:
        """Name of a job's folder, as `hydra.sweep.subdir` has it."""
        return str(self.compose(overrides, number).hydra.sweep.subdir)

    def open(self, arguments: Sequence[str]) -> Sweep:
        """The sweep in this folder."""
        how = of_sweep(str(line) for line in self.config.hydra.overrides.hydra)
        return Sweep.open(self.folder, f"fusion.{self.task.name}", [*how, *arguments], self.parallel)

    def launch(self, sweep: Sweep, jobs: Sequence[Job]) -> list[Any]:
        """Run jobs and wait for them; each leaves its record in its folder."""
        sweep.save()
        multirun = self.folder / "multirun.yaml"
        if not multirun.is_file():
            OmegaConf.save(self.config, multirun)
        self.task.sweep = sweep
        return list(self.launcher.launch([[*job.overrides, f"hydra.sweep.subdir={job.name}"] for job in jobs], 0))


def run_grid(
    driver: Driver, params: Mapping[str, Any], arguments: list[str], order: str, max_jobs: int | None
) -> list[Any]:
    """Run every combination that can work and is not done.

    Raises:
        FusionError: nothing can work, or the folder holds another sweep; nothing was changed.
    """
    overrides = driver.parse(params, arguments)
    keys = [override.get_key_element() for override in overrides if override.is_sweep_override()]
    with locked(driver.folder):
        sweep = driver.open(arguments)
        (combinations,) = BasicSweeper.split_arguments(overrides, None)
        numbered = any(driver.folder_name(combinations[0], number) != str(number) for number in (0, 1))
        for given in drop_impossible(sweep, combinations, driver.check):
            sweep.add(given, keys, partial(driver.folder_name, given) if numbered else str)
        sweep.check_same(keys)
        jobs = to_run(sweep, order, max_jobs)
        print(sweep.describe(jobs), flush=True)
        driver.task.sweep = sweep
        return driver.launch(sweep, jobs) if jobs else []


def unfinished(sweep: Sweep) -> str:
    """A line on what is left, with the command that goes on; empty if nothing is."""
    states = sweep.states()
    left = states[NEW] + states[INTERRUPTED]
    if not left:
        return ""
    return f"{left} of {len(sweep.jobs)} jobs are left ({states[FINISHED]} finished); go on with: {sweep.again()}"
