"""Paths on the command line are strings, always: `a=1`, `a=my photos (1)/x.png`, `out=[a]{b}` need no quotes of Hydra's."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from fusion.errors import ConfigError

_PATH_KEYS = re.compile(
    r"a|b|out|fused(\..+)?|sources|run|evaluation|ckpt_path|reference|images|depth_dir|contact_sheet|run_dir|resume|dir|photo|"
    r"paths\.\w+|downstream\.ckpt_path|hydra\.(run|sweep)\.dir|data\..*\b(root|a|b|reference|cache_dir|include|exclude)"
)
"""Keys of all commands whose values name files or folders."""

_FOLDER_KEYS = re.compile(r"run_dir|paths\.\w+|hydra\.(run|sweep)\.dir")
"""Keys that Hydra makes a folder of before anything of ours runs."""


def check_folders(arguments: Sequence[str]) -> None:
    """Refuse empty folders, which Hydra would take for the working folder and write into.

    Args:
        arguments: the command line without the program's name.

    Raises:
        ConfigError: names the key.
    """
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and _FOLDER_KEYS.fullmatch(key.lstrip("+")) and value.strip("\"' \t") in ("", "null"):
            raise ConfigError(f"{key.lstrip('+')}={value or '(empty)'}: expected a path")


def is_path_key(key: str) -> bool:
    """Whether the value of a key names a file or a folder."""
    return _PATH_KEYS.fullmatch(key) is not None


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """Quote the values of path keys, so that Hydra takes them as they are.

    Values that Hydra understands as more than a string stay: those in quotes already, `null`, interpolations (`${...}`), the
    missing value `???`, lists such as `[a.jpg,b.jpg]`, and with `--multirun` several values with commas. A file or folder of
    exactly that name goes before all of this.

    Args:
        arguments: the command line without the program's name.
    """
    sweeps = any(argument in ("-m", "--multirun") for argument in arguments)
    return [_quoted(argument, sweeps) for argument in arguments]


def _quoted(argument: str, sweeps: bool) -> str:
    key, equals, value = argument.partition("=")
    if not equals or not value or not _PATH_KEYS.fullmatch(key.lstrip("+")):
        return argument
    if key.lstrip("+") == "sources" and value.startswith("[") and value.endswith("]") and not _exists(value):
        return f"{key}=[{','.join(_in_list(part.strip()) for part in value[1:-1].split(','))}]"
    if not _exists(value) and _is_hydras(value, sweeps):
        return argument
    if key in ("resume", "contact_sheet") and value.lower() in ("true", "false"):  # switches of some commands
        return argument
    if re.fullmatch(r"[\w./\\-]*[A-Za-z_/][\w./\\-]*", value, re.ASCII) and not _looks_typed(value):
        return argument  # nothing that Hydra could read otherwise
    return f"{key}={_in_quotes(value)}"


def _in_list(value: str) -> str:
    """An element of a list of paths, a string whatever it looks like."""
    return value if not value or value[0] in "\"'" else _in_quotes(value)


def _in_quotes(value: str) -> str:
    return str(QuotedString(text=value.replace("${", "\\${"), quote=Quote.single).with_quotes())


def _exists(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long for a name
        return False


def _is_hydras(value: str, sweeps: bool) -> bool:
    if value in ("null", "???") or value.startswith("${") or (sweeps and "," in value):
        return True
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return True
    return value.startswith(("[", "{")) and value.endswith(("]", "}"))


def _looks_typed(value: str) -> bool:
    """Whether Hydra would make a number, a truth value or nothing of it."""
    if value.lower() in ("true", "false", "on", "off", "yes", "no", "null", "nan", "inf", "-inf", "+inf"):
        return True
    try:
        float(value.replace("_", ""))
    except ValueError:
        return False
    return True


def make_folder(folder: Path, key: str, keep: bool = True) -> None:
    """Make the folder of results and try it, before any work is done for them.

    Args:
        folder: made with its parents.
        key: what the user gave, `out=PLACE`, for the message.
        keep: False only tries, and removes what was made: work that is refused leaves no empty folders.

    Raises:
        ConfigError: nothing can be written there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for path in made if not keep else ():
            path.rmdir()
    except OSError as error:
        raise ConfigError(f"{key}: cannot be written ({error.strerror or error}); choose another place") from error
