"""Kinds of values that keys of the configuration take: numbers in a range, words of a list, paths."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fusion.errors import ConfigError

_DEVICES = re.compile(r"auto|-?\d+(,\d+)*")


@dataclass(frozen=True)
class Rule:
    """What a value has to be.

    Attributes:
        accepts: whether a value that is not null is right.
        text: what is right, in words.
        null: whether null is.
    """

    accepts: Callable[[Any], bool]
    text: str
    null: bool = False

    def check(self, key: str, value: Any) -> None:
        """Refuse a wrong value.

        Raises:
            ConfigError: names the key, the value and what was expected.
        """
        if value is None and self.null:
            return
        if value is None or not self.accepts(value):
            shown = "null" if value is None else str(value) or "(empty)"
            raise ConfigError(f"{key}={shown:.100}: expected {self.text}{', or null' if self.null else ''}")


def whole(low: int | None = None, high: int | None = None, null: bool = False) -> Rule:
    """A whole number between limits that count as inside."""
    return Rule(lambda v: _is_int(v) and _within(v, low, high), f"a whole number{_limits(low, high)}", null)


def real(low: float | None = None, high: float | None = None, null: bool = False) -> Rule:
    """A finite number between limits that count as inside."""

    def accepts(value: Any) -> bool:
        return (_is_int(value) or isinstance(value, float)) and abs(value) < float("inf") and _within(value, low, high)

    return Rule(accepts, f"a number{_limits(low, high)}", null)


def one_of(*words: str, null: bool = False) -> Rule:
    """One of some words."""
    return Rule(lambda v: isinstance(v, str) and v in words, f"one of {', '.join(words)}", null)


def several(rule: Rule, count: int | None = None, null: bool = False) -> Rule:
    """A list of values that each follow a rule."""

    def accepts(value: Any) -> bool:
        return isinstance(value, list) and (count is None or len(value) == count) and all(map(rule.accepts, value))

    number = "" if count is None else f"{count} "
    return Rule(accepts, f"a list of {number}values, each {rule.text}", null)


def either(*rules: Rule, null: bool = False) -> Rule:
    """One rule or another."""
    return Rule(lambda v: any(r.accepts(v) for r in rules), " or ".join(r.text for r in rules), null)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _limits(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" of at least {low}" if low is not None else f" of at most {high}" if high is not None else ""


SWITCH = Rule(lambda v: isinstance(v, bool), "true or false")
TEXT = Rule(lambda v: isinstance(v, str) and bool(v.strip()), "a word")
PATH = Rule(lambda v: isinstance(v, str) and bool(v.strip()) and "\0" not in v, "a path")
ONE_PATH = Rule(PATH.accepts, "a path (more than two sources: sources=FOLDER or sources=[a.jpg,b.jpg,c.jpg])")
PATH_OR_NULL = Rule(PATH.accepts, PATH.text, null=True)
TEXT_OR_NULL = Rule(TEXT.accepts, TEXT.text, null=True)
SIDE = either(whole(1), several(whole(1), 2), null=True)
SHARE = real(0, 1)
COMPILE = either(SWITCH, one_of("default", "reduce-overhead", "max-autotune"))
MEMORY = either(real(0), Rule(TEXT.accepts, "auto or a size such as 4GiB"))
DEVICES = Rule(
    lambda v: _is_int(v) or (isinstance(v, list) and all(map(_is_int, v))) or bool(_DEVICES.fullmatch(str(v))),
    "a number of devices, a list of their numbers, or auto",
)
MAPPING = Rule(lambda v: isinstance(v, Mapping), "a mapping of keys")
INTERVAL = Rule(
    lambda v: isinstance(v, str | Mapping) or (_is_int(v) and v >= 1) or (isinstance(v, float) and 0 < v <= 1),
    "a number of steps of at least 1, or a share of the epoch above 0",
    null=True,
)
DURATION = Rule(
    lambda v: isinstance(v, Mapping) or bool(re.fullmatch(r"\d+(:\d{1,2}){3}", str(v))),
    "days, hours, minutes and seconds as DD:HH:MM:SS",
    null=True,
)
BATCHES = either(whole(0), real(0, 1), null=True)
