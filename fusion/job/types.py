"""Whether a plain value of a configuration is of the type that a parameter is annotated with."""

import collections.abc
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

_ANY = (Any, object, inspect.Parameter.empty)
_LISTS = (Sequence, list, tuple, collections.abc.Iterable, collections.abc.Collection, set, frozenset)
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    Path: "a path",
}


def hints_of(function: Any) -> dict[str, Any]:
    """Types by parameter; empty where they cannot be read."""
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations name what only type checkers import
        return {}


def target_hints(target: Any) -> dict[str, Any]:
    """Types by parameter of a function, or of a class and its bases; a parameter has that of the class that first names it."""
    functions = (
        [vars(cls)["__init__"] for cls in target.__mro__ if "__init__" in vars(cls)]
        if isinstance(target, type)
        else [target]
    )
    hints: dict[str, Any] = {}
    for function in functions:
        hints = hints_of(function) | hints
    return hints


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value can be meant for a parameter of this type.

    Nodes with a `_target_` become objects and fit everything. Types that no plain value has fit nothing plain.
    """
    if hint in _ANY or isinstance(hint, typing.TypeVar) or (isinstance(value, Mapping) and "_target_" in value):
        return True
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is typing.Annotated:
        return fits(value, inner[0])
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (str, Path) or (isinstance(hint, type) and hint.__name__ == "PathLike"):
        return isinstance(value, str)
    base = origin or hint
    if base in _LISTS:
        if not isinstance(value, list | tuple):
            return False
        if base is tuple and inner and inner[-1] is not Ellipsis:
            return len(inner) == len(value) and all(fits(v, one) for v, one in zip(value, inner, strict=True))
        return not inner or all(fits(item, inner[0]) for item in value)
    if base in (dict, Mapping, collections.abc.MutableMapping):
        return isinstance(value, Mapping) and (len(inner) < 2 or all(fits(item, inner[1]) for item in value.values()))
    return isinstance(value, Mapping) or not isinstance(base, type) or base is collections.abc.Callable


def expected(hint: Any) -> str:
    """A type in words, for messages: those of its alternatives that a configuration can hold."""
    words = dict.fromkeys(_words(hint))
    return " or ".join(words) if words else "another kind of value"


def _words(hint: Any) -> list[str]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return [word for one in inner for word in _words(one)]
    if origin is Literal:
        return [f"one of {', '.join(str(one) for one in inner)}"]
    if hint in _WORDS:
        return [_WORDS[hint]]
    base = origin or hint
    if base in _LISTS:
        of = _words(inner[0]) if inner else []
        return [f"a list of {of[0].removeprefix('a ')}s" if of and of[0].startswith("a ") else "a list"]
    if base in (dict, Mapping):
        return ["a mapping"]
    return []
