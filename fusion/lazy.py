"""Packages whose exports are imported when they are first used: naming such a package costs no import of PyTorch."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def exports(package: str, file: str) -> Callable[[str], Any]:
    """The `__getattr__` (PEP 562) of a package that states its imports under `if TYPE_CHECKING:`.

    Args:
        package: its `__name__`.
        file: its `__file__`.

    Returns:
        A function that imports an export, given its name; it raises AttributeError for other names.
    """
    places: dict[str, tuple[str, str]] = {}

    def get(name: str) -> Any:
        if not places:
            places.update(_places(Path(file)))
        if name not in places:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, original = places[name]
        return getattr(import_module(module), original)

    return get


def _places(file: Path) -> dict[str, tuple[str, str]]:
    """Module and name there of every export."""
    found: dict[str, tuple[str, str]] = {}
    for block in ast.parse(file.read_text(encoding="utf-8")).body:
        for node in block.body if isinstance(block, ast.If) else ():
            if isinstance(node, ast.ImportFrom):
                found |= {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}
    return found
