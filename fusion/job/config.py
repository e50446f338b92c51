"""Where configurations live, how they are checked before anything is built, and how objects are built from them."""

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

import fusion.job.resolvers  # noqa: F401  (registers what conf/ computes)
from fusion.errors import ConfigError, DataError, FusionError
from fusion.job.aliases import with_present_names
from fusion.job.plugins import TRUSTED, how_to_trust, trusted_packages
from fusion.job.source import Parameters, check_of, parameters_of
from fusion.job.types import expected, fits, target_hints

_RESERVED = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def config_dir() -> Path:
    """Absolute path of the configuration tree: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def plain(cfg: Any) -> Any:
    """Resolve a configuration into plain dictionaries and lists.

    Raises:
        ConfigError: a mandatory value (`???`) is missing, or an interpolation points nowhere.
    """
    if not isinstance(cfg, DictConfig | ListConfig):
        return {key: plain(value) for key, value in cfg.items()} if isinstance(cfg, dict) else cfg
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key or str(error).rsplit(": ", 1)[-1].splitlines()[0]
        raise ConfigError(f"'{key}' has no value yet: add {key}=VALUE to the command line") from error
    except InterpolationResolutionError as error:
        if isinstance(error.__cause__, FusionError):
            raise error.__cause__ from None
        raise ConfigError(f"cannot resolve '{error.full_key}': {first_line(error)}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"cannot read '{error.full_key}': {first_line(error)}") from error


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries into dotted keys; empty ones are values, and lists unless they hold dictionaries."""
    if isinstance(tree, Mapping) and (tree or not prefix):
        items: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        items = enumerate(tree)
    else:
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known dotted name that `word` most likely meant, or None: by its whole path, else by its last part."""
    known = list(dict.fromkeys(known))
    if close := difflib.get_close_matches(word, known, n=1, cutoff=0.75):
        return close[0]
    leaf = word.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    if same_leaf:
        return min(same_leaf, key=lambda name: (name.count("."), len(name)))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return close[0]
    leaves = {name.rsplit(".", 1)[-1]: name for name in sorted(known, key=lambda name: -name.count("."))}
    close = difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.75)
    return leaves[close[0]] if close else None


def check(cfg: DictConfig | Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Check a composed configuration before anything is built.

    Every node with a `_target_` must name something importable of a trusted package and give only keywords it accepts,
    and all it requires. A target class may define a static or class method `check_config(config)` or
    `check_config(config, path)` that raises `ConfigError` for values that cannot work together.

    Args:
        cfg: the whole configuration or a part of it.
        path: dotted key of that part, for messages.

    Returns:
        The configuration as plain dictionaries and lists, with the present names of what has moved.

    Raises:
        ConfigError: with the full key path of what is wrong.
    """
    config = with_present_names(plain(cfg))
    for node_path, node in _targets(config, path):
        target = locate(node["_target_"], node_path)
        _check_keywords(_parameters(target), node, node_path)
        _check_types(target, node, node_path)
        _check_values(getattr(target, "check_config", None), node, node_path)
    return config


def check_early(cfg: DictConfig | Mapping[str, Any] | None, path: str = "") -> None:
    """Refuse what `check` refuses as far as the source of the targets tells, before PyTorch and Lightning are imported.

    Args:
        cfg: the whole configuration or a part of it.
        path: dotted key of that part, for messages.

    Raises:
        ConfigError: with the full key path of what is wrong.
    """
    trusted = trusted_packages()
    for node_path, node in _targets(with_present_names(plain(cfg)), path):
        name = node["_target_"]
        if name.split(".", 1)[0] not in trusted or name.rpartition(".")[0] in sys.modules:
            continue
        if (parameters := parameters_of(name)) is not None:
            _check_keywords(parameters, node, node_path)
        if (hook := check_of(name)) is not None:
            try:
                _check_values(hook, node, node_path)
            except ConfigError:
                raise
            except Exception:  # NeedsImport, or a defect that `check` comes upon again
                continue


def check_sources(cfg: DictConfig, *keys: str) -> None:
    """Refuse folders and files of images that do not exist, before anything is imported to read them.

    Args:
        cfg: configuration of a command.
        *keys: keys of single paths.

    Raises:
        DataError: names the first path that is missing.
    """
    for key in keys:
        path = Path(str(cfg[key])).expanduser()
        if not path.exists():
            if re.fullmatch(r"\.[A-Za-z]\w{1,4}", path.suffix):
                raise DataError(f"{key}={path}: no such file.")
            raise DataError(f"{key}={path}: no such folder or file; source images are read from there.")


def instantiate(cfg: Any, **extra: Any) -> Any:
    """Build what a configuration node describes, with plain dictionaries and lists only as arguments.

    Plain containers keep OmegaConf types out of saved hyperparameters: checkpoints load with `weights_only=True`.

    Args:
        cfg: node with a `_target_`, or None.
        **extra: further keyword arguments of the target.

    Raises:
        FusionError: as the target raised it.
        ConfigError: the target did not accept its arguments.
    """
    if cfg is None:
        return None
    config = with_present_names(plain(cfg))
    for node_path, node in _targets(config, ""):
        locate(node["_target_"], node_path)
    if extra:  # added to a partial: Hydra would copy the objects in `extra`
        config = {**config, "_partial_": True}
    try:
        built = hydra.utils.instantiate(config, _convert_="all")
    except InstantiationException as error:
        for cause in causes(error):
            if isinstance(cause, FusionError):
                raise cause from None
        raise
    return built(**extra) if extra else built


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error itself, then what caused it, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """First line of an error's text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _targets(tree: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(tree, Mapping):
        if isinstance(tree.get("_target_"), str):
            yield path, dict(tree)
        for key, value in tree.items():
            yield from _targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _targets(value, f"{path}.{index}" if path else str(index))


def locate(target: str, path: str) -> Any:
    """What a dotted name means.

    Args:
        target: dotted name of a class or function of a trusted package.
        path: dotted key of its node, for messages.

    Raises:
        ConfigError: of another package, or no such class or function.
    """
    where = f"{path}._target_" if path else "_target_"
    trusted = trusted_packages()
    if target.split(".", 1)[0] not in trusted:
        raise ConfigError(
            f"{where}={target}: only objects of {', '.join(trusted)} may be built from a config; {how_to_trust(target)}"
        )
    parts = target.split(".")
    found: Any = None
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            found = import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                continue
            raise ConfigError(f"{where}={target}: importing {name} needs the package '{error.name}'") from error
        for index, part in enumerate(parts[cut:], cut):
            if not hasattr(found, part):
                hint = nearest(part, [n for n in dir(found) if not n.startswith("_")])
                place = ".".join(parts[:index])
                raise ConfigError(
                    f"{where}={target}: {place} has no '{part}'" + (f"; did you mean '{hint}'?" if hint else "")
                )
            found = getattr(found, part)
        break
    if found is None or not callable(found):
        raise ConfigError(f"{where}={target}: no such class or function")
    home = getattr(found, "__module__", None)
    if home is not None and home.split(".", 1)[0] not in trusted:
        raise ConfigError(
            f"{where}={target}: this is '{home}.{parts[-1]}', not an object of {', '.join(trusted)}; {how_to_trust(home)}"
        )
    return found


def _parameters(target: Any) -> Parameters:
    """Keyword parameters with whether the target itself requires them, and whether it takes any others.

    The `**kwargs` of a class of ours go on to its bases; what these require is for the class to give. Elsewhere they
    can go anywhere.
    """
    found: dict[str, bool] = {}
    functions = (
        [vars(cls)["__init__"] for cls in target.__mro__ if "__init__" in vars(cls)]
        if isinstance(target, type)
        else [target]
    )
    for depth, function in enumerate(functions):
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            return found, True
        if isinstance(target, type):
            parameters = parameters[1:]
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, depth == 0 and parameter.default is parameter.empty)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return found, False
        if target.__module__.split(".", 1)[0] in TRUSTED[1:]:
            break
    return found, True


def _check_keywords(parameters: Parameters, node: dict[str, Any], path: str) -> None:
    accepted, takes_any = parameters
    given = [key for key in node if key not in _RESERVED]
    name = node["_target_"].rsplit(".", 1)[-1]
    dot = f"{path}." if path else ""
    for key in given:
        if key not in accepted and not takes_any:
            hint = nearest(key, accepted)
            known = f"; did you mean '{dot}{hint}'?" if hint else f"; {name} takes: {', '.join(accepted) or 'nothing'}"
            raise ConfigError(f"unknown key '{dot}{key}'{known}")
    if node.get("_partial_") or node.get("_args_"):
        return
    missing = [key for key, required in accepted.items() if required and key not in given]
    if missing:
        raise ConfigError(f"'{dot}{missing[0]}' is missing: {name} needs it")


def _check_types(target: Any, node: dict[str, Any], path: str) -> None:
    """Values against annotations."""
    hints = target_hints(target)
    for key, value in node.items():
        if key in _RESERVED or key not in hints or fits(value, hints[key]):
            continue
        if value is not None or not fits("", hints[key]):  # what is not given yet is for the class to ask for
            full = f"{path}.{key}" if path else key
            shown = "null" if value is None else str(value) or "(empty)"
            raise ConfigError(f"{full}={shown:.100}: expected {expected(hints[key])}")


def _check_values(hook: Callable[..., Any] | None, node: dict[str, Any], path: str) -> None:
    if hook is None:
        return
    config = {key: value for key, value in node.items() if key not in _RESERVED}
    if len(inspect.signature(hook).parameters) > 1:
        hook(config, path)
        return
    try:
        hook(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path and f"{path}." not in str(error) else str(error)) from None
