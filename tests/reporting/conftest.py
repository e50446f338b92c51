"""Runs commands in this process."""

import importlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest


class Result(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command, as `python -m fusion.<name>` would."""

    def run(name: str, *arguments: str) -> Result:
        main = importlib.import_module(f"fusion.{name}").main
        monkeypatch.setattr(sys, "argv", [f"fusion/{name}.py", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run
