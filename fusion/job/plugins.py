"""Parts from outside this package: whom a configuration may name, and modules that are imported before a job starts."""

import importlib
import os
import sys
from collections.abc import Sequence

from fusion.errors import ConfigError, FusionError

TRUSTED = ("fusion", "torch", "torchvision", "lightning", "timm", "kornia", "torchmetrics")
"""Packages a configuration may name: a yaml file runs what it names. The environment adds your own."""
PACKAGES_VARIABLE = "FUSION_TRUSTED_PACKAGES"
PLUGINS_VARIABLE = "FUSION_PLUGINS"


def _listed(variable: str) -> list[str]:
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def trusted_packages() -> tuple[str, ...]:
    """Top-level packages that a configuration may name.

    Those of `FUSION_TRUSTED_PACKAGES=a,b` and of the modules in `FUSION_PLUGINS=a.metrics,b.routers` count besides ours.
    """
    own = [*_listed(PACKAGES_VARIABLE), *(name.split(".", 1)[0] for name in _listed(PLUGINS_VARIABLE))]
    return tuple(dict.fromkeys((*TRUSTED, *own)))


def how_to_trust(name: str) -> str:
    """The end of a message about `name`, which lies in a package that is not trusted."""
    return f"to trust a package of your own, set {PACKAGES_VARIABLE}={name.split('.', 1)[0]}"


def load_plugins(imports: Sequence[str] | str | None = None) -> list[str]:
    """Import the modules that register parts from outside, such as metrics.

    `FUSION_PLUGINS` comes from the user's own environment and needs no further trust; `imports` belongs to a configuration,
    which may be somebody else's. What was imported is added to `FUSION_PLUGINS`, for processes started from here.

    Args:
        imports: full names of modules, as a list or separated by commas.

    Returns:
        The names of all modules asked for, in the order of their import.

    Raises:
        ConfigError: a module of a package that is not trusted, that does not exist, or that fails while it is imported.
    """
    asked = imports.split(",") if isinstance(imports, str) else [str(name) for name in imports or ()]
    asked = [name.strip() for name in asked if name.strip()]
    for name in asked:
        if name.split(".", 1)[0] not in trusted_packages():
            raise ConfigError(f"imports={name}: this package is not trusted; {how_to_trust(name)}")
    wanted = list(dict.fromkeys([*_listed(PLUGINS_VARIABLE), *asked]))
    for name in wanted:
        _import(name, "imports" if name in asked else PLUGINS_VARIABLE)
    if wanted:
        os.environ[PLUGINS_VARIABLE] = ",".join(wanted)
    return wanted


def _import(name: str, origin: str) -> None:
    if os.getcwd() not in sys.path and "" not in sys.path:  # `python -m` looks there, installed commands do not
        sys.path.append(os.getcwd())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(
                f"{origin}={name}: no module '{missing}'; start in the folder that holds it, or set PYTHONPATH to that folder"
            ) from error
        raise ConfigError(f"{origin}={name}: it needs the package '{missing}', which is not installed") from error
    except FusionError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise ConfigError(f"{origin}={name}: importing it failed with {type(error).__name__}: {said}") from error
