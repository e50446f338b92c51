"""The command `fusion`: `fusion train ...` is `python -m fusion.train ...`, and so for every command."""

import ast
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fusion.version import __version__

PACKAGE = Path(__file__).parent
FIRST = ("train", "evaluate", "predict", "score", "benchmark", "analyze", "data")
"""Commands in the order of `fusion --help`; others follow by name."""


def commands() -> dict[str, str]:
    """Names of all commands with what each does: one per root configuration, `conf/<name>.yaml`."""
    from fusion.job.config import config_dir

    found = {path.stem for path in config_dir().glob("*.yaml") if _source(path.stem) is not None}
    return {name: _summary(name) for name in (*FIRST, *sorted(found.difference(FIRST))) if name in found}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names; nothing of the other commands is imported.

    Args:
        arguments: of the command line, without the program's name; None takes `sys.argv`.

    Raises:
        SystemExit: always; 0 after help and version, 2 for an unknown command, otherwise the command's own status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name in ("--version", "-V"):
        print(f"fusion {__version__}")
        sys.exit(0)
    if name in ("--help", "-h", "help"):
        print(_help())
        sys.exit(0 if given else 2)
    known = commands()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        print(f"error: no command '{name}'; {hint}known: {', '.join(known)}", file=sys.stderr)
        sys.exit(2)
    if os.getcwd() not in sys.path:  # as with `python -m`: parts of one's own lie in the working folder
        sys.path.append(os.getcwd())
    sys.argv = [f"fusion {name}", *given[1:]]
    importlib.import_module(_module(name)).main()


def _module(name: str) -> str:
    return f"fusion.{name}.__main__" if (PACKAGE / name).is_dir() else f"fusion.{name}"


def _source(name: str) -> Path | None:
    path = PACKAGE / name / "__main__.py" if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py"
    return path if path.is_file() else None


def _summary(name: str) -> str:
    """First sentence of a command's docstring, read without importing it."""
    source = _source(name)
    text = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) if source else None) or ""
    return text.splitlines()[0].split(": `")[0].rstrip(".") if text else ""


def _help() -> str:
    rows = "\n".join(f"  {name:<10} {summary}" for name, summary in commands().items())
    return (
        f"fusion {__version__}: train, sweep, use and score image fusion methods.\n\n"
        f"Usage: fusion COMMAND [key=value ...]\n\nCommands:\n{rows}\n\n"
        "fusion COMMAND --help lists the keys of a command; fusion --version prints the version.\n"
        "fusion COMMAND is the same as python -m fusion.COMMAND."
    )


if __name__ == "__main__":
    main()
