"""Hydra's way to find our sweepers: `hydra/sweeper=grid` and `hydra/sweeper=optuna` name the classes of this file.

Every Hydra program on the machine imports it, so it is light; the work is in `fusion.job`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.plugins.sweeper import Sweeper


class _Sweeper(Sweeper):
    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Called by Hydra before `sweep`."""
        from fusion.job.sweepers import Driver

        self.driver = Driver(hydra_context, task_function, config)


class GridSweeper(_Sweeper):
    """Every combination of the comma lists, in a folder that can be started again.

    Args:
        params: keys with their comma lists, as on the command line.
        max_jobs: jobs of this call at most; the next call goes on.
        order: of the jobs, see `fusion.job.sweep.to_run`.
    """

    def __init__(
        self, params: Mapping[str, Any] | None = None, max_jobs: int | None = None, order: str = "grid"
    ) -> None:
        self.params, self.max_jobs, self.order = dict(params or {}), max_jobs, order

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs."""
        from fusion.job.sweepers import run_grid

        return run_grid(self.driver, self.params, arguments, self.order, self.max_jobs)


class OptunaSweeper(_Sweeper):
    """Search with Optuna; the study is in the sweep's folder, so that it can be started again.

    Args:
        params: keys with comma lists or Hydra's `interval(...)`, `range(...)`, `choice(...)`, `tag(log, ...)`.
        n_trials: jobs that finish, all calls together.
        n_jobs: jobs that run at once, where the launcher can.
        direction: "maximize" or "minimize"; None takes that of `monitor.mode`.
        sampler: "tpe", "random", "cmaes" or "qmc".
        seed: of the sampler.
        study_name: of the study.
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        n_trials: int = 20,
        n_jobs: int = 1,
        direction: str | None = None,
        sampler: str = "tpe",
        seed: int | None = 0,
        study_name: str = "fusion",
    ) -> None:
        self.params = dict(params or {})
        self.options: dict[str, Any] = {
            "n_trials": n_trials,
            "n_jobs": n_jobs,
            "direction": direction,
            "sampler": sampler,
            "seed": seed,
            "study_name": study_name,
        }

    def sweep(self, arguments: Sequence[str]) -> Any:
        """Run the search."""
        from fusion.job.search import run_search

        return run_search(self.driver, self.params, list(arguments), **self.options)
