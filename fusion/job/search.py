"""Search over a configuration with Optuna, whose study lies in the sweep's folder beside the jobs.

Optuna is asked here and not through a plugin of Hydra's, because that plugin can neither go on with a search in its folder
nor leave out combinations that cannot work.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep
from omegaconf import OmegaConf

from fusion.errors import ConfigError, FusionError
from fusion.job.records import FINISHED, INTERRUPTED, job_state, job_value
from fusion.job.schema import takes_whole_numbers
from fusion.job.sweep import Job, Sweep, locked
from fusion.job.sweepers import Driver

STUDY = "study.journal"
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "cmaes": "CmaEsSampler", "qmc": "QMCSampler"}
MAX_IMPOSSIBLE = 200
"""Suggestions in a row that may be impossible before a search gives up."""


def run_search(
    driver: Driver,
    params: Mapping[str, Any],
    arguments: list[str],
    n_trials: int,
    n_jobs: int,
    direction: str | None,
    sampler: str,
    seed: int | None,
    study_name: str,
) -> None:
    """Run trials until `n_trials` have finished, over all calls in this folder.

    Raises:
        ConfigError: Optuna is missing, an option is wrong, nothing is searched, or nothing that is suggested can work.
    """
    optuna = _optuna()
    overrides = driver.parse(params, arguments)
    fixed = [_plain(o) for o in overrides if not o.is_sweep_override()]
    spaces = {o.get_key_element(): _space(o, _is_whole(driver, fixed, o)) for o in overrides if o.is_sweep_override()}
    if not spaces:
        raise ConfigError("hydra/sweeper=optuna: nothing to search; give keys with comma lists or interval(low,high)")
    if sampler not in SAMPLERS:
        raise ConfigError(f"hydra.sweeper.sampler={sampler}: expected one of {', '.join(SAMPLERS)}")
    with locked(driver.folder):
        sweep = driver.open(arguments)
        study = optuna.create_study(
            storage=_storage(optuna, driver.folder),
            study_name=study_name,
            direction=direction or _direction(driver),
            load_if_exists=True,
        )
        asked = len(study.get_trials(deepcopy=False))  # a later call must not suggest the first one's settings again
        study.sampler = getattr(optuna.samplers, SAMPLERS[sampler])(seed=None if seed is None else seed + asked)
        _adopt(optuna, study, sweep)
        done = [t for t in study.get_trials(deepcopy=False) if t.state == optuna.trial.TrialState.COMPLETE]
        print(
            f"search in {driver.folder}: {len(done)} of {n_trials} trials finished, "
            f"{study.direction.name.lower()} what training gives back",
            flush=True,
        )
        while (left := n_trials - len(done)) > 0:
            batch = _suggest(optuna, driver, sweep, study, spaces, fixed, min(n_jobs, left))
            new = [job for _, job in batch if job_state(sweep.folder / job.name) != FINISHED]
            try:
                if new:
                    driver.launch(sweep, new)
            finally:
                for trial, job in batch:
                    _tell(optuna, study, trial, sweep.folder / job.name)
            finished = [t for t in study.get_trials(deepcopy=False) if t.state == optuna.trial.TrialState.COMPLETE]
            if len(finished) == len(done):
                break  # every job of the batch failed, and their lines say why
            done = finished
        driver.task.sweep = sweep
        sweep.save()
        if sweep.dropped:
            print(f"left out {len(sweep.dropped)} suggestions, which cannot work (the first: {sweep.dropped[0][1]})")
        if done:
            shown = ", ".join(f"{key}={value}" for key, value in study.best_params.items())
            print(f"best of {len(done)} trials: {study.best_value:.6g} with {shown}", flush=True)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError("hydra/sweeper=optuna needs the package optuna: pip install 'image-fusion[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _storage(optuna: Any, folder: Path) -> Any:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / STUDY))
    return optuna.storages.JournalStorage(backend)


def _direction(driver: Driver) -> str:
    return "minimize" if OmegaConf.select(driver.config, "monitor.mode") == "min" else "maximize"


def _space(override: Override, whole: bool) -> Any:
    """The distribution that a swept override stands for; an interval has both its ends.

    Args:
        override: of the command line or of `params`.
        whole: whether its key takes whole numbers only; Hydra makes every interval one of fractions.

    Raises:
        ConfigError: an interval or a range that is empty, or an interval of whole numbers that ends at fractions.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    key = override.get_key_element()
    log = "log" in getattr(value, "tags", ())
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            assert low is not None and high is not None  # Hydra's parser fills both
            if whole:
                if low % 1 or high % 1:
                    raise ConfigError(
                        f"{key}: interval({low:g},{high:g}): this key takes whole numbers, so the ends must be"
                    )
                return IntDistribution(int(low), int(high), log=log)
            return FloatDistribution(float(low), float(high), log=log)
        if isinstance(value, RangeSweep):
            start, stop, step = value.start, value.stop, value.step
            if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
                return IntDistribution(start, stop - 1, step=1 if log else step, log=log)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
    return CategoricalDistribution(tuple(override.sweep_string_iterator()))


def _is_whole(driver: Driver, fixed: list[str], override: Override) -> bool:
    if not isinstance(override.value(), IntervalSweep):
        return False
    return takes_whole_numbers(driver.compose(fixed), driver.task.name, override.get_key_element().lstrip("+~"))


def _plain(override: Override) -> str:
    value = override.value()
    text = str(value) if isinstance(value, QuotedString) else override.get_value_element_as_str()
    return f"{override.get_key_element()}={text}"


def _suggest(
    optuna: Any, driver: Driver, sweep: Sweep, study: Any, spaces: Mapping[str, Any], fixed: list[str], count: int
) -> list[tuple[Any, Job]]:
    batch: list[tuple[Any, Job]] = []
    refused = 0
    while len(batch) < count:
        try:
            trial = study.ask(dict(spaces))
        except ValueError as error:  # kinds of values may not change in a study
            raise ConfigError(
                f"{sweep.folder} holds another search ({error}); give hydra.sweep.dir another folder"
            ) from error
        given = [*fixed, *(f"{key}={trial.params[key]}" for key in spaces)]
        try:
            driver.check(given)
        except FusionError as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            sweep.dropped.append((given, " ".join(str(error).split())))
            refused += 1
            if refused >= MAX_IMPOSSIBLE:
                raise ConfigError(f"{error} (so none of {refused} suggestions can work)") from error
            continue
        refused = 0
        job = sweep.add(given, list(spaces))
        study.set_user_attr(f"job {trial.number}", job.name)
        batch.append((trial, job))
    return batch


def _tell(optuna: Any, study: Any, trial: Any, folder: Path) -> None:
    value = job_value(folder) if job_state(folder) == FINISHED else None
    if value is not None:
        study.tell(trial, value)
    elif job_state(folder) != INTERRUPTED:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _adopt(optuna: Any, study: Any, sweep: Sweep) -> None:
    """Finish or repeat the trials that a killed call left open; a repeated one finds its job by its overrides."""
    names: Mapping[str, str] = study.user_attrs
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        name = names.get(f"job {trial.number}")
        value = job_value(sweep.folder / name) if name and job_state(sweep.folder / name) == FINISHED else None
        if value is not None:
            study.tell(trial.number, value)
        else:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
