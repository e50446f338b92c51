"""Shared code of the commands: compose a configuration with Hydra, run a `main(cfg)`, answer mistakes with one line.

Exit status: 0 done, 1 a defect or a partial failure, 2 an error the user can fix, 130 interrupted.
`HYDRA_FULL_ERROR=1` gives tracebacks back.
"""

import errno
import functools
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from fusion.errors import ConfigError, FusionError
from fusion.job.aliases import full_group, full_overrides
from fusion.job.config import causes, config_dir, first_line, flatten, nearest
from fusion.job.help import help_text, wants_help
from fusion.job.paths import check_folders, quote_paths
from fusion.job.task import Task, environment, exit_status, finish_sweep

_OF_THE_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR,
    errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
"""Errors of the operating system that the user can do something about."""

_LOST = re.compile(r"Connection (closed|reset)|[Ss]ocket [Tt]imeout|NCCL|remote process exited|Timed out waiting")
"""What collectives say when another rank is gone."""

OPTIONAL_GROUPS = ("experiment", "debug", "sweep", "downstream")
"""Groups of which nothing is chosen by default."""

Main = Callable[[DictConfig], Any]


def command(
    name: str,
    prepare: Callable[[list[str]], list[str]] | None = None,
    check: Callable[[DictConfig], Any] | None = None,
    after_sweep: Callable[[Path], Any] | None = None,
) -> Callable[[Main], Callable[..., Any]]:
    """Make `main(cfg)` a command on the root configuration `name`.

    Called without arguments the decorated function reads the command line, composes `conf/<name>.yaml`, runs (once, or
    once per job of a `--multirun`) and exits; called with a configuration it just runs `main`.
    Before `main` runs, `paths.output_dir` is pointed at the folder Hydra made for the job.

    Args:
        name: root configuration, without `.yaml`.
        prepare: rewrites the command-line arguments before Hydra sees them.
        check: raises a FusionError for a configuration that cannot work; a sweep leaves such jobs out.
        after_sweep: what to show of a sweep at its end, given its folder.
    """

    def decorate(main: Main) -> Callable[..., Any]:
        @functools.wraps(main)
        def entry(cfg: DictConfig | None = None) -> Any:
            if cfg is not None:
                return main(cfg)
            sys.exit(_run(Task(main, name, check, one_line), prepare, after_sweep))

        return entry

    return decorate


def free_controls(arguments: list[str]) -> list[str]:
    """Let `control.KEY=VALUE` give any control: which ones there are is for the model to say. `instruction=` is one by itself."""
    named = [f"control.{argument}" if argument.startswith("instruction=") else argument for argument in arguments]
    return [f"++{argument}" if argument.startswith("control.") else argument for argument in named]


def null_groups(arguments: list[str]) -> list[str]:
    """Let `GROUP=null` choose nothing, which Hydra does not understand: the group's `none`, or no choice where that is the default.

    Raises:
        ConfigError: a group that has to be chosen.
    """
    kept = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        folder = config_dir() / key
        if value != "null" or not key or not folder.is_dir():
            kept.append(argument)
        elif (folder / "none.yaml").is_file():
            kept.append(f"{key}=none")
        elif key not in OPTIONAL_GROUPS:
            known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            raise ConfigError(f"{key}=null: expected one of {known}")
    return kept


def each_source(*sides: str) -> Callable[[list[str]], list[str]]:
    """Let `range=VALUE` stand for `range.SIDE=VALUE` of every side."""

    def rewrite(arguments: list[str]) -> list[str]:
        return [
            f"range.{side}={argument[len('range=') :]}" if argument.startswith("range=") else argument
            for argument in arguments
            for side in (sides if argument.startswith("range=") else sides[:1])
        ]

    return rewrite


def _run(
    task: Task, prepare: Callable[[list[str]], list[str]] | None, after_sweep: Callable[[Path], Any] | None
) -> int:
    full_error = task.full_error == "1"
    logging.raiseExceptions = full_error  # a log that cannot be written (a full disk) is not worth a traceback per line
    original = sys.argv
    # Launchers register what they take under the names of our files, and Hydra has not dropped that yet.
    warnings.filterwarnings("ignore", "(?s).*validated against ConfigStore schema.*")
    error: BaseException | None = None
    if wants_help(original[1:]):
        print(help_text(task.name, original[1:]), end="")
        return 0
    try:
        arguments = original[1:] if prepare is None else prepare(original[1:])
        check_folders(arguments)
        sys.argv = [original[0], *quote_paths(full_overrides(null_groups(arguments)))]
        start = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=task.name)(task)
        # Hydra hands exceptions on only with this switch, and names the job after this module.
        with environment(HYDRA_FULL_ERROR="1", HYDRA_MAIN_MODULE=f"fusion.{task.name}"):
            start()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        finish_sweep(task)
        return 130
    except SystemExit as stop:  # Lightning turns signals into these, SIGTERM with status 0
        finish_sweep(task)
        if type(stop).__name__ == "SIGTERMException":  # importing Lightning takes seconds
            return 143
        if isinstance(stop.__context__, KeyboardInterrupt):
            return 130
        raise
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as found:
        error = found
        if full_error:
            traceback.print_exception(error)
    finally:
        overrides, sys.argv = sys.argv[1:], original
    if error is None and task.sweep is not None:
        return finish_sweep(task, after_sweep)
    error = error or task.error
    if error is None:
        return 0
    line = one_line(error, task.name, overrides)
    if line is None and not full_error:
        traceback.print_exception(error)
    print(f"error: {_rank()}{line or first_line(error)}", file=sys.stderr)
    return exit_status(error, line)


def _rank() -> str:
    rank = os.environ.get("RANK")
    return f"[rank {rank}] " if rank not in (None, "0") else ""


def one_line(error: BaseException, name: str = "", overrides: list[str] | None = None) -> str | None:
    """One line for an error the user can fix; None for a defect.

    Args:
        error: what was raised.
        name: root configuration, to find the nearest key in.
        overrides: command-line overrides.
    """
    for cause in causes(error):
        if isinstance(cause, FusionError):
            return _own_words(cause)
    for cause in causes(error):
        if isinstance(cause, OSError) and (cause.errno in _OF_THE_DISK or _while_making_a_folder(cause)):
            return _disk_line(cause)
        if isinstance(cause, RuntimeError) and (
            found := re.search(r"DataLoader worker.*killed by signal: (.*)", str(cause))
        ):
            return (
                f"a process that loads data was ended ({found[1].rstrip('. ')}): too little memory (lower data.num_workers), or "
                "a file that crashes a decoder (python -m fusion.data action=verify finds it)"
            )
    if isinstance(error, InstantiationException):
        return None
    if isinstance(error, MissingMandatoryValue):
        return f"'{error.full_key}' has no value yet: add {error.full_key}=VALUE"
    if isinstance(error, HydraException):
        return _composition_line(error, name, overrides or [])
    if isinstance(error, OmegaConfBaseException):
        text = first_line(error)
        if own := re.match(r"ConfigError raised while resolving interpolation: (.*)", text):  # of a resolver of ours
            return own[1]
        return f"'{error.full_key}': {text}" if error.full_key else text
    return None


def _while_making_a_folder(error: OSError) -> bool:
    """Whether a folder could not be made: its name is a file's, or lies where there are no folders (/proc)."""
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return error.errno in (errno.EEXIST, errno.ENOENT) and bool(frames) and frames[-1] in ("mkdir", "makedirs")


def _own_words(error: FusionError) -> str:
    """The text of an error; of one that a loading process raised, without the traceback that PyTorch puts into it."""
    text = str(error)
    if text.startswith("Caught ") and "Original Traceback" in text:
        text = text.rsplit(f"{type(error).__name__}: ", 1)[-1]
    return " ".join(text.splitlines())


def _disk_line(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}no space left on the disk: free some, or write elsewhere (run_dir, paths.log_dir, out)"
    return f"{where}{error.strerror or error}; give a place that can be read and written (run_dir, paths.log_dir, out)"


def _composition_line(error: HydraException, name: str, overrides: list[str]) -> str:
    text = str(error).strip()
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read '{error.override}' ({first_line(error)}); write key=value, and quote special characters, as in "
            "'key=\"my file (1).png\"'"
        )
    if found := re.search(r"Could not find '([^']+)'\s+Available options in '([^']*)':\n((?:[ \t]+\S+\n?)+)", text):
        option, group, options = found[1].removeprefix(f"{found[2]}/"), found[2], found[3].split()
        hint = nearest(option, options)
        meant = f"did you mean '{hint}'? " if hint else ""
        return f"no '{option}' in conf/{group}; {meant}known: {', '.join(options)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found[1]
        if full := full_group(key):
            return f"'{key}' is now '{full}': write so in yaml files{_place(text)}"
        hint = nearest(key, _known_keys(name, overrides))
        if hint == key:  # the key is known, but not one inside the given mapping
            return f"{key}={{...}} has keys that the configuration does not know yet: write ++{key}={{...}} to add them"
        swept = any(re.match(r"(experiment|model)=(choice\(|[^\[{(]*,)", part) for part in overrides)
        return (
            f"unknown key '{key}'"
            + (f"; did you mean '{hint}'?" if hint else f"; see python -m fusion.{name} --help")
            # Hydra composes once without the values that are swept, and only then every job.
            + (f"; a key that only the swept configurations have is given as {key}=choice(VALUE)" if swept else "")
        )
    if found := re.search(r"You must specify '([^']+)', e.g, \S+\s+Available options:\s+((?:\s*\S+\n?)+)", text):
        return f"choose {found[1]}= one of {', '.join(found[2].split())}"
    cause = error.__cause__
    detail = f": {first_line(cause)}" if cause is not None and first_line(cause) not in text else ""
    return first_line(error) + detail


def _place(text: str) -> str:
    """The file that an error of composition names."""
    place = re.search(r"In '([^']+)'", text)
    return f" (conf/{place[1]}.yaml)" if place else ""


def _known_keys(name: str, overrides: list[str]) -> list[str]:
    """Every key and group of the configuration as composed without the overrides it does not know."""
    try:
        args = get_args_parser().parse_args(overrides)
        kept = [part for part in args.overrides if "/" in part or "." not in part.split("=", 1)[0]]
    except SystemExit:
        kept = []
    for attempt in (kept, [part for part in kept if part.startswith("experiment=")], []):
        try:
            GlobalHydra.instance().clear()
            with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
                keys = flatten(OmegaConf.to_container(hydra.compose(name, attempt), resolve=False))
        except Exception:  # the wrong override may be among them: try with fewer
            continue
        groups = [path.name for path in config_dir().iterdir() if path.is_dir()]
        inner = {key.rsplit(".", depth)[0] for key in keys for depth in range(1, key.count(".") + 1)}
        return sorted(set(keys) | inner | set(groups))
    return []
