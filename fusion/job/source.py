"""Signatures and checks read from source files: a wrong configuration is refused before PyTorch is imported.

Importing PyTorch, Lightning and torchvision takes seconds; parsing the few files that a configuration names does not.
What cannot be told from the source is left to the check that imports (`fusion.job.config.check`).
"""

import __future__

import ast
import builtins
import sys
from collections.abc import Callable
from copy import copy
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Parameters = tuple[dict[str, bool], bool]
"""Keyword parameters with whether each is required, and whether any others are taken."""
Definition = tuple[str, ast.ClassDef | ast.FunctionDef]
"""Name of a module, and a class or function in it."""


class NeedsImport(Exception):
    """The source alone does not tell."""


def parameters_of(target: str) -> Parameters | None:
    """Keyword parameters of a dotted name, as `fusion.job.config` reads them from the imported object.

    Returns:
        None where the source does not tell.
    """
    found = _find(target)
    if found is None:
        return None
    accepted: dict[str, bool] = {}
    functions = [found[1]] if isinstance(found[1], ast.FunctionDef) else _constructors(found)
    for depth, function in enumerate(functions):
        if function is None:
            return (accepted, True) if depth else None
        own, takes_any = _arguments(function, method=isinstance(found[1], ast.ClassDef))
        for name, required in own.items():
            accepted.setdefault(name, required and depth == 0)
        if not takes_any:
            return accepted, False
        if not target.startswith("fusion."):
            return accepted, True
    return accepted, True


def check_of(target: str) -> Callable[..., Any] | None:
    """The `check_config` of a class of ours, which raises `NeedsImport` where it needs more than plain Python.

    Returns:
        None for other packages, and where there is none.
    """
    found = _find(target) if target.startswith("fusion.") else None
    while found is not None and isinstance(found[1], ast.ClassDef):
        for node in found[1].body:
            if isinstance(node, ast.FunctionDef) and node.name == "check_config":
                static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
                return _namespace(found[0]).define(node) if static else None
        found = next(iter(_bases(found)), None)
    return None


def method_of(target: str, name: str) -> tuple[dict[str, str | None], str] | None:
    """Keyword parameters of a method of a class of ours with their defaults as text (None without one), and its docstring.

    Returns:
        None where there is no such class or method.
    """
    found = _find(target)
    while found is not None and isinstance(found[1], ast.ClassDef):
        for node in found[1].body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return _defaults(node.args), ast.get_docstring(node) or ""
        found = next((base for base in _bases(found) if base is not None), None)
    return None


def _defaults(arguments: ast.arguments) -> dict[str, str | None]:
    named = arguments.args[1:]
    given: list[ast.expr | None] = [None] * (len(named) - len(arguments.defaults))
    values = [*given, *arguments.defaults, *arguments.kw_defaults]
    shown = [None if value is None else _shown(value) for value in values]
    return {a.arg: text for a, text in zip((*named, *arguments.kwonlyargs), shown, strict=True)}


def _shown(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return "null" if value.value is None else str(value.value)
    return ast.unparse(value)


@cache
def _tree(module: str) -> ast.Module | None:
    top, *inner = module.split(".")
    try:
        spec = find_spec(top)  # does not import it
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    for part in inner[:-1]:
        folder /= part
    place = folder / inner[-1] if inner else folder
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    return None


@cache
def _names(module: str) -> dict[str, ast.stmt]:
    """Statements at the top of a module by the names that they bind."""
    tree = _tree(module)
    body = list(tree.body) if tree is not None else []
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            body += node.body  # exports that are imported late
    names: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0]: node for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            names[node.target.id] = node
    return names


def _origin(module: str, node: ast.ImportFrom) -> str:
    """Absolute name of the module that an import statement of `module` names."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + _is_package(module)]
    return ".".join([*parts, *([node.module] if node.module else [])])


@cache
def _is_package(module: str) -> bool:
    spec = find_spec(module.split(".")[0])
    if spec is None or not spec.submodule_search_locations:
        return False
    return (
        Path(next(iter(spec.submodule_search_locations))).joinpath(*module.split(".")[1:]) / "__init__.py"
    ).is_file()


def _find(target: str) -> Definition | None:
    """The class or function that a dotted name means, through the imports of packages."""
    for _ in range(10):  # a face imports from a face
        module, _, name = target.rpartition(".")
        node = _names(module).get(name) if module else None
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            return module, node
        if not isinstance(node, ast.ImportFrom):
            return None
        alias = next(alias for alias in node.names if (alias.asname or alias.name) == name)
        target = f"{_origin(module, node)}.{alias.name}"
    return None


def _bases(found: Definition) -> list[Definition | None]:
    module, node = found
    assert isinstance(node, ast.ClassDef)
    return [_find(f"{module}.{base.id}") if isinstance(base, ast.Name) else None for base in node.bases]


def _constructors(found: Definition) -> list[ast.FunctionDef | None]:
    """The `__init__` of a class and of its bases, in the order of the search; None for one that is not to be seen."""
    node = found[1]
    assert isinstance(node, ast.ClassDef)
    if node.decorator_list or any(keyword.arg == "metaclass" for keyword in node.keywords):
        return [None]  # dataclasses and the like make theirs
    own: list[ast.FunctionDef | None] = [
        child for child in node.body if isinstance(child, ast.FunctionDef) and child.name == "__init__"
    ]
    bases = [base for base in _bases(found) if base is None or base[1].name not in ("ABC", "Protocol")]
    return own + [init for base in bases for init in ([None] if base is None else _constructors(base))]


def _arguments(function: ast.FunctionDef, method: bool) -> Parameters:
    arguments = function.args
    named = arguments.args[1:] if method else arguments.args
    optional = {argument.arg for argument in arguments.args[len(arguments.args) - len(arguments.defaults) :]}
    optional |= {a.arg for a, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value}
    names = [argument.arg for argument in (*named, *arguments.kwonlyargs)]
    return {name: name not in optional for name in names}, arguments.kwarg is not None


class _Namespace(dict[str, Any]):
    """Globals of a module of ours, each evaluated when it is asked for: what nobody asks for is not imported."""

    def __init__(self, module: str) -> None:
        super().__init__(__name__=module, __builtins__=builtins)
        self.module = module

    def __missing__(self, name: str) -> Any:
        node = _names(self.module).get(name)
        if node is None:
            raise KeyError(name)  # a builtin
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            return self.define(node)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            assert node.value is not None
            self[name] = eval(compile(ast.Expression(node.value), self.module, "eval"), self, self)
            return self[name]
        assert isinstance(node, ast.Import | ast.ImportFrom)
        self[name] = self._imported(node, name)
        return self[name]

    def define(self, node: ast.ClassDef | ast.FunctionDef) -> Any:
        """The class or function of a definition, without its decorators; annotations are not evaluated."""
        bare = _undecorated(node) if isinstance(node, ast.FunctionDef) else node
        code = compile(ast.Module([bare], type_ignores=[]), self.module, "exec", __future__.annotations.compiler_flag)
        exec(code, self, self)
        return self[node.name]

    def _imported(self, node: ast.Import | ast.ImportFrom, name: str) -> Any:
        alias = next(alias for alias in node.names if (alias.asname or alias.name.split(".")[0]) == name)
        module = alias.name if isinstance(node, ast.Import) else _origin(self.module, node)
        if module not in sys.modules and module.split(".")[0] not in (*sys.stdlib_module_names, "fusion"):
            raise NeedsImport(module)
        if isinstance(node, ast.Import):
            return import_module(module if alias.asname else module.split(".")[0])
        if module in sys.modules or not module.startswith("fusion."):
            return getattr(import_module(module), alias.name)
        return _namespace(module)[alias.name]


def _undecorated(node: ast.FunctionDef) -> ast.FunctionDef:
    bare = copy(node)
    bare.decorator_list = []
    return bare


@cache
def _namespace(module: str) -> _Namespace:
    return _Namespace(module)
