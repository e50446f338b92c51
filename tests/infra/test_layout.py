"""Imports run one way: commands -> training, scoring, analysis, downstream -> models -> parts -> files and errors."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import fusion
from fusion.job.config import config_dir

ROOT = Path(fusion.__file__).parent
COMMANDS = ("train", "evaluate", "predict", "score", "benchmark", "analyze", "report", "dashboard", "export", "publish", "demo",
            "data.__main__")  # fmt: skip
LEVELS = (
    ("errors", "version", "files", "lazy", "names", "parts"),
    ("hub", "job", "device", "images", "ranks", "pages"),
    ("metrics", "data", "layers", "moe"),
    ("losses",),
    ("models",),
    ("api",),
    ("training", "inference", "downstream", "analysis"),
    ("scoring", "exporting"),
    ("reporting", "webpage"),
    ("sharing",),
    ("__main__",),  # hands over to a command by its name
)
"""Rooms from the ground up; one imports from rooms below it and from itself."""
NEVER = {
    "data": ("job", "hub", "metrics", "layers", "moe"),
    "metrics": ("job", "hub", "data", "layers", "moe"),
    "layers": ("job", "data", "metrics", "moe"),
    "moe": ("job", "data", "metrics"),
    "losses": ("job", "hub", "data", "layers", "moe"),
    "models": ("job",),
}
"""Rooms below or beside that are none of a room's business."""


def _modules() -> dict[str, Path]:
    """Files by dotted name without `fusion.`; the package itself is ""."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imported(name: str) -> Iterator[str]:
    """Modules of ours that a module imports, anywhere in its text."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [deep if deep.removeprefix("fusion.") in MODULES else str(node.module) for deep in inner]
        else:
            continue
        yield from ("" if n == "fusion" else n.removeprefix("fusion.") for n in names if n.split(".")[0] == "fusion")


ARROWS = sorted({(name, target) for name in MODULES for target in _imported(name) if name != target})


def _room(name: str) -> str:
    """Top-level package or file; each command is a room of its own."""
    return name if name in COMMANDS else name.split(".")[0]


def test_every_room_is_known() -> None:
    known = {"", *COMMANDS, *(room for level in LEVELS for room in level)}
    assert {_room(name) for name in MODULES} <= known


def test_commands_import_no_other_command_and_nothing_imports_a_command() -> None:
    assert [arrow for arrow in ARROWS if arrow[1] in COMMANDS] == []


def test_imports_run_one_way() -> None:
    height = {room: number for number, level in enumerate(LEVELS) for room in level}
    wrong = []
    for name, target in ARROWS:
        here, there = _room(name), _room(target)
        if name == "" or here in COMMANDS or here == there:
            continue
        if height[here] <= height[there] or there in NEVER.get(here, ()):
            wrong.append(f"{name} -> {target}")
    assert wrong == []


def test_no_paper_imports_another() -> None:
    papers = {"gifnet", "mae", "moe_fusion", "tcmoa", "toar"}
    wrong = []
    for name, target in ARROWS:
        here, there = (part.split(".")[1] if part.startswith("models.") else "" for part in (name, target))
        if here != there and there in papers and (here in papers or name.startswith("models.")):
            wrong.append(f"{name} -> {target}")
    assert wrong == []


@pytest.mark.parametrize("folder", ["", "data", "models", "downstream", "training"])
def test_rooms_stand_in_no_circle(folder: str) -> None:
    """Packages and files beside them, in the whole and inside the larger rooms."""
    prefix = f"{folder}." if folder else ""
    graph: dict[str, set[str]] = {}
    for name, target in ARROWS:
        if not (name.startswith(prefix) and target.startswith(prefix)) or name in COMMANDS or "" in (name, target):
            continue
        here, there = (part.removeprefix(prefix).split(".")[0] for part in (name, target))
        if here != there:
            graph.setdefault(here, set()).add(there)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"{folder or 'fusion'}: {' -> '.join(error.args[1])}")


def test_modules_stand_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for name, target in ARROWS:
        graph.setdefault(name, set()).add(target)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_are_thin(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= 60


def _targets(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("_target_"), str):
            yield tree["_target_"]
        for value in tree.values():
            yield from _targets(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _targets(value)


@pytest.mark.parametrize(
    "path", sorted(config_dir().rglob("*.yaml")), ids=lambda path: str(path.relative_to(config_dir()))
)
def test_configurations_name_faces_of_packages(path: Path) -> None:
    """What `__all__` of a package exports: its files can move without a change in conf/."""
    tree = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    for target in _targets(tree):
        module, _, name = target.rpartition(".")
        if not module.startswith("fusion.") or module in ("fusion.moe.routers", "fusion.moe.experts"):
            continue
        assert MODULES[module.removeprefix("fusion.")].name == "__init__.py", target
        assert name in import_module(module).__all__, target
