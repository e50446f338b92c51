"""`--help` of a command: what it does, its own keys with their comments, its groups, and the controls of the model."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fusion.job.config import config_dir
from fusion.job.source import method_of

OF_TRAINING_ALONE = ("optimizer", "scheduler", "callbacks", "sweep", "debug")
"""Groups that commands built on train.yaml have and do not use."""
WIDTH = 100


def wants_help(arguments: list[str]) -> bool:
    """Whether a command line asks for our help (Hydra's own is `--hydra-help`)."""
    return "--help" in arguments or "-h" in arguments


def help_text(name: str, arguments: list[str]) -> str:
    """The help of a command.

    Args:
        name: of the root configuration, without `.yaml`.
        arguments: of the command line; `model=NAME` chooses whose controls are listed.
    """
    path = config_dir() / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    about = ((config.get("hydra") or {}).get("help") or {}).get("header", "")
    parts = [about.rstrip(), "Keys (write key=value):\n" + _indent(own_keys(text))]
    chosen = dict(groups(name))
    if chosen:
        given = {line.split("=", 1)[0]: line.split("=", 1)[1] for line in arguments if "=" in line}
        lines = [_group_line(group, default) for group, default in chosen.items()]
        parts.append("Groups (write group=option):\n" + "\n".join(lines))
        if "control" in config and "model" in chosen:
            model = given.get("model", str(chosen["model"]))
            if listed := controls(model):
                shown = "\n".join(f"  control.{key}  {what}" for key, what in listed.items())
                parts.append(f"Controls of model={model}:\n{shown}")
    parts.append("--cfg job shows the composed configuration without running; --hydra-help explains Hydra's own flags.")
    return "\n\n".join(part for part in parts if part.strip()) + "\n"


def own_keys(text: str) -> str:
    """The keys of a root configuration as they stand in its file, without its defaults list and Hydra's node."""
    kept, inside = [], True
    for line in text.splitlines():
        if re.match(r"\S", line) and not line.startswith("#"):
            inside = not re.match(r"(defaults|hydra):", line)
        if inside and line.strip() and not re.match(r"#", line):
            kept.append(line.rstrip())
    return "\n".join(kept)


def groups(name: str) -> Iterator[tuple[str, Any]]:
    """Groups of a command with their defaults, those of a configuration it builds on included."""
    config = yaml.safe_load((config_dir() / f"{name}.yaml").read_text(encoding="utf-8"))
    for entry in config.get("defaults", ()):
        if isinstance(entry, str) and entry != "_self_":
            yield from ((group, default) for group, default in groups(entry) if group not in OF_TRAINING_ALONE)
        elif isinstance(entry, dict):
            for key, default in entry.items():
                group = str(key).removeprefix("override ").removeprefix("/").split("@")[-1]
                if not group.startswith("hydra/") and group != "paths":
                    yield group, default


def controls(model: str) -> dict[str, str]:
    """Controls of a model as NAME=DEFAULT, each with its line of the docstring; empty for an unknown model."""
    path = config_dir() / "model" / f"{model}.yaml"
    target = _target(path)
    forward = None if target is None else method_of(target, "forward")
    if forward is None:
        return {}
    defaults, about = forward
    found = {}
    for name, default in defaults.items():
        if name in ("a", "b", "task"):
            continue
        match = re.search(rf"^\s*(?:\w+, )*{name}(?:, \w+)*: (.*(?:\n\s{{8,}}.*)*)", about, re.M)
        shown = "" if default is None else f"={default}"
        found[f"{name}{shown}"] = " ".join(match[1].split()) if match else ""
    return found


def _target(path: Path) -> str | None:
    """`_target_` of a model's configuration, looked for in those it builds on."""
    if not path.is_file():
        return None
    config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if "_target_" in config:
        return str(config["_target_"])
    bases = [entry for entry in config.get("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
    return next((found for base in bases if (found := _target(path.with_name(f"{base}.yaml")))), None)


def _group_line(group: str, default: Any) -> str:
    folder = config_dir() / {"suite": "metrics"}.get(group, group)
    options = sorted(path.stem for path in folder.glob("*.yaml"))
    options += sorted(f"{p.parent.name}/{p.stem}" for p in folder.glob("*/*.yaml")) if group == "experiment" else []
    shown = ""
    line = f"  {group}={default if default is not None else 'null'}   of "
    for option in options:
        if len(line) + len(option) > WIDTH:
            shown += line.rstrip() + "\n"
            line = "      "
        line += option + " "
    return shown + line.rstrip()


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
