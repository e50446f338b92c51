"""Configurations that come with a checkpoint or a run folder are data: what they may build is a closed list.

A yaml file of the user runs what it names (`fusion.job.config.TRUSTED`). A record comes from whoever made the file, so
it may only name classes of this package, or of `FUSION_TRUSTED_PACKAGES`, that are models or parts of models.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from fusion.errors import ConfigError, FusionError, WeightsError
from fusion.job.aliases import renamed
from fusion.job.config import causes, check, first_line, instantiate, locate
from fusion.job.plugins import TRUSTED, trusted_packages
from fusion.parts import Part, RecordedModel

_TARGET = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")
_KEY = re.compile(r"(\+\+|\+|~)?[A-Za-z_][\w-]*([./][\w-]+)*(@[\w.-]*(:[\w.-]+)?)?")
_RESERVED = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_", "_self_")
_FORBIDDEN = {"_args_", "_recursive_", "_self_", "hydra", "defaults"}
_SWITCHES = {"_partial_", "_convert_"}
_WRITES = ("dirpath", "save_dir", "log_dir", "output_dir", "default_root_dir", "file", "path")
_PLACES = {"run_dir", "paths.log_dir", "paths.output_dir"}  # the folder that is resumed decides
_OF_SWEEPS = re.compile(
    r"\+*hydra(/sweeper=\w+|/launcher=\w+|\.sweeper\.(order|max_jobs|n_trials|n_jobs|seed|sampler|direction|study_name)=[\w.-]+"
    r"|\.launcher\.([a-z]\w*=\d+|(partition|qos|account|constraint|gres)=[\w.:-]+))"
)
"""Settings of sweeps that are mere data: names, numbers and the words of a cluster."""
_LARGEST = 1 << 16
_COUNTS = re.compile(r"seed|pixels")  # integers that say nothing of the size of a layer
_DEEPEST = 20


def build_recorded(config: Any, origin: str) -> Any:
    """Build the model that a file recorded, after `check_recorded_model`; `config` of the model is what it was built from.

    Args:
        config: what the record holds.
        origin: the file, for messages.

    Raises:
        WeightsError: the record names something else than models and parts, or values that do not fit together.
        ConfigError: a key or value that the model does not accept.
    """
    checked = check_recorded_model(config, origin)
    try:
        model = instantiate(checked)
    except FusionError:
        raise
    except Exception as error:  # whatever a part has against values that nobody wrote
        cause = list(causes(error))[-1]
        raise WeightsError(
            f"{origin}: the model that it records cannot be built ({type(cause).__name__}: {first_line(cause):.200}); "
            "choose the model yourself, with model=NAME"
        ) from error
    model.config = checked
    return model


def check_recorded_model(config: Any, origin: str) -> dict[str, Any]:
    """Check the configuration of a model that a file brought along, before anything of it is imported or built.

    Every `_target_`, at any depth, must be a class (never a function) of this package or of `FUSION_TRUSTED_PACKAGES`: at
    the top a model (`RecordedModel`), below it an `nn.Module` or a `fusion.parts.Part`. Interpolations, positional arguments and
    other switches of Hydra are refused, and so are sizes that no model here has.

    Args:
        config: what the record holds.
        origin: the file, for messages.

    Returns:
        The configuration, checked as one of the user's own would be; parts have dropped what they would open.

    Raises:
        WeightsError: the record names something else, or is damaged.
        ConfigError: a key or value that the model does not accept.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("_target_"), str):
        raise WeightsError(f"{origin}: its record of the model is damaged: choose the model yourself, with model=NAME")
    from torch import nn  # late: a command answers `--help` without it

    cleaned = _clean(config, "model", origin, (RecordedModel,), (nn.Module, Part), 0)
    return check(cleaned, "model")


def _clean(value: Any, path: str, origin: str, bases: tuple[type, ...], parts: tuple[type, ...], depth: int) -> Any:
    if depth > _DEEPEST:
        raise WeightsError(f"{origin}: its record of the model is damaged (nested too deeply at {path[:60]})")
    if isinstance(value, Mapping):
        return _clean_node(value, path, origin, bases, parts, depth)
    if isinstance(value, list | tuple):
        return [_clean(item, f"{path}.{i}", origin, parts, parts, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, str):
        if "${" in value:
            raise _refused(origin, path, "an interpolation")
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST and not _COUNTS.search(path):
        raise _refused(origin, path, f"the size {value}")
    elif not isinstance(value, bool | int | float | None):
        raise _refused(origin, path, f"a value of type {type(value).__name__}")
    return value


def _clean_node(
    node: Mapping[Any, Any], path: str, origin: str, bases: tuple[type, ...], parts: tuple[type, ...], depth: int
) -> dict[str, Any]:
    for key in node:
        if not isinstance(key, str | int) or "${" in str(key):
            raise _refused(origin, path, f"the key {key!r:.60}")
        if key in _RESERVED and key != "_target_" and key not in _SWITCHES:
            raise _refused(origin, path, f"the switch {key}")
    if "_target_" not in node:
        if any(key in _SWITCHES for key in node):
            raise _refused(origin, path, "a switch without a _target_")
        return {key: _clean(item, f"{path}.{key}", origin, parts, parts, depth + 1) for key, item in node.items()}
    target = renamed(node["_target_"]) if isinstance(node["_target_"], str) else node["_target_"]
    found = _recorded_class(target, path, origin, bases)
    inner = {
        key: target if key == "_target_" else _clean(item, f"{path}.{key}", origin, parts, parts, depth + 1)
        for key, item in node.items()
    }
    drop = getattr(found, "recorded_config", None)
    return dict(drop(inner)) if drop is not None else inner


def _recorded_class(target: Any, path: str, origin: str, bases: tuple[type, ...]) -> type:
    own = own_packages()
    if not isinstance(target, str) or not _TARGET.fullmatch(target) or target.split(".", 1)[0] not in own:
        raise _refused(origin, path, f"_target_={target!s:.120}")
    found = locate(target, path)
    if not isinstance(found, type) or not issubclass(found, bases) or str(found.__module__).split(".", 1)[0] not in own:
        raise _refused(origin, path, f"_target_={target}, which is not {_names(bases)}")
    return found


def _parts_of_runs() -> tuple[type, ...]:
    """What a recorded override may build."""
    from lightning import Callback  # late: importing it takes seconds
    from torch import nn
    from torch.utils.data import Dataset

    return nn.Module, Part, Dataset, Callback


def own_packages() -> tuple[str, ...]:
    """Packages whose models and parts a record may name: this one, and those of the user's own that are trusted."""
    return ("fusion", *(name for name in trusted_packages() if name not in TRUSTED))


def _names(bases: tuple[type, ...]) -> str:
    return " or ".join(
        {
            "Module": "a module",
            "Part": "a part",
            "RecordedModel": "a model",
            "Dataset": "a data set",
            "Callback": "a callback",
        }[b.__name__]
        for b in bases
    )


def _refused(origin: str, path: str, what: str) -> WeightsError:
    return WeightsError(
        f"{origin}: refused, its record has {what} at {path}: a record may only name models and parts of "
        f"{', '.join(own_packages())}; if you trust it, write a yaml for the model and load the weights with model=NAME"
    )


def check_recorded_overrides(lines: Any, origin: str) -> list[str]:
    """Check the overrides that a run folder recorded, before they are given to Hydra again.

    They may set or delete keys of the composed configuration, choose options of its groups, and name classes (never
    functions) of this package or of `FUSION_TRUSTED_PACKAGES` that are modules, parts, data sets or callbacks. They may not
    reach Hydra's own node, use a resolver, sweep, choose a file outside the configuration tree, or say where files are
    written.

    Args:
        lines: what the record holds.
        origin: the file, for messages.

    Returns:
        The lines, without the places of another machine's logs.

    Raises:
        ConfigError: names the first line that is more than data.
    """
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ConfigError(
            f"{origin}: its overrides are damaged: start a new run, or give the checkpoint with resume=FILE"
        )
    kept = [line for line in lines if _key(line) not in _PLACES]
    for line in kept:
        if reason := _more_than_data(line):
            raise ConfigError(
                f"{origin}: refused, the recorded override '{line:.120}' {reason}; if you trust it, give it on the command line"
            )
    return kept


def check_recorded_arguments(lines: Any, origin: str) -> list[str]:
    """Check the arguments that a sweep's folder recorded, as `check_recorded_overrides` does those of a run.

    Keys may be swept, and a few of Hydra's own keys say how: which sweeper and launcher by name, and their plain settings.

    Args:
        lines: what the record holds.
        origin: the file, for messages.

    Returns:
        The lines, without the folder of the sweep.

    Raises:
        ConfigError: names the first line that is more than data.
    """
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ConfigError(f"{origin}: its arguments are damaged; give the command of the sweep again")
    kept = [line for line in lines if _key(line) not in {*_PLACES, "hydra.sweep.dir"}]
    for line in kept:
        if not _OF_SWEEPS.fullmatch(line) and (reason := _more_than_data(line, sweep=True)):
            raise ConfigError(
                f"{origin}: refused, the recorded argument '{line:.120}' {reason}; if you trust it, give it on the command line"
            )
    return kept


def of_sweep(lines: Iterable[str]) -> list[str]:
    """Of Hydra's own overrides those that a sweep records, so that it goes on as it was started; not the jobs of one call."""
    return [line for line in lines if _OF_SWEEPS.fullmatch(line) and ".max_jobs=" not in line]


def _more_than_data(line: str, sweep: bool = False) -> str | None:
    key, _, text = line.partition("=")
    if not _KEY.fullmatch(key):
        return "is not a plain KEY=VALUE"
    words = [word for word in re.split(r"[./@:]", key.lstrip("+~")) if word]
    if "hydra" in words:
        return "reaches Hydra's own settings"
    if any(
        (word in _RESERVED and word != "_target_") or word.startswith("_global_") or word == "defaults"
        for word in words
    ):
        return "says what to build"
    if words[-1] in _WRITES:
        return "says where files are written"
    if "${" in text and ":" in text[text.index("${") :]:
        return "uses a resolver"
    try:
        override = OverridesParser.create().parse_override(line)
        if override.is_sweep_override():
            plain = sweep and not any(mark in text for mark in ("_target_", "${", "..", "://", "~", "\\"))
            return None if plain and not text.startswith("/") else "is a sweep"
        value = override.value()
    except (HydraException, ValueError):
        return "cannot be read"
    if words[-1] == "imports" and any(_package(name) not in own_packages() for name in _names_in(value)):
        return "imports modules"
    if words[-1] == "_target_":
        value = {"_target_": value}
    if reserved := next((name for name, _ in _items(value) if name in _FORBIDDEN), None):
        return f"sets {reserved}"
    if any(name in _WRITES for name, _ in _items(value)):
        return "says where files are written"
    for target in (item for name, item in _items(value) if name == "_target_"):
        try:
            _recorded_class(target, key, "", _parts_of_runs())
        except FusionError:
            return f"builds {target!s:.60}"
    group = "." not in key.split("@", 1)[0]
    if group and any(_leaves_the_tree(name) for name in (value if isinstance(value, list) else [value])):
        return "leaves the configuration tree"
    return None


def _names_in(value: Any) -> list[str]:
    """Names of modules, as a list or separated by commas."""
    listed = value if isinstance(value, list) else str(value or "").split(",")
    return [str(name).strip() for name in listed if str(name).strip()]


def _package(name: str) -> str:
    return name.split(".", 1)[0]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~").split("@", 1)[0]


def _leaves_the_tree(name: Any) -> bool:
    return isinstance(name, str) and (".." in name or name.startswith(("/", "~")) or "://" in name or "\\" in name)


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key), item
            yield from _items(item)
    elif isinstance(value, list):
        for item in value:
            yield from _items(item)
