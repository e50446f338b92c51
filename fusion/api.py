"""Models by name, for Python users and for the commands."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import hydra
import hydra.utils
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from fusion.errors import ConfigError
from fusion.hub import SHIPPED_NAMES
from fusion.job.aliases import full_overrides
from fusion.job.cli import one_line
from fusion.job.config import check, config_dir, instantiate, nearest, plain
from fusion.job.recorded import build_recorded
from fusion.job.types import expected, fits, hints_of
from fusion.models.base import FusionModel
from fusion.models.loading import (
    find_checkpoint,
    load_checkpoint,
    read_checkpoint,
    recorded_model,
    recorded_name,
)
from fusion.models.shared import CONFIG, SUMS, WEIGHTS, is_shared, repository
from fusion.models.trained import TrainedModel


class Checkpoint(NamedTuple):
    """A checkpoint that has been read.

    Attributes:
        path: of the file.
        content: of the file.
    """

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> "Checkpoint":
        """Read a checkpoint, or the best or last one of a run folder."""
        found = find_checkpoint(path)
        return cls(found, read_checkpoint(found))


def load_model(
    name: str | None = None,
    ckpt_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    device: str | torch.device = "cpu",
    allow_untrained: bool = False,
) -> FusionModel:
    """Build a model by the name of its configuration, ready to fuse.

    >>> import torch
    >>> from fusion import load_model
    >>> from fusion.metrics import score
    >>> model = load_model("average")
    >>> a, b = torch.zeros(3, 32, 48), torch.ones(3, 32, 48)
    >>> fused = model.fuse(a, b, task="vif").fused
    >>> fused.shape, fused.mean().item()
    (torch.Size([1, 3, 32, 48]), 0.5)
    >>> score(a, b, fused, metrics=["en"])
    {'en': 0.0}
    >>> load_model("tcmoa_tiny", overrides=["model.top_k=9"])
    Traceback (most recent call last):
    fusion.errors.ConfigError: model.top_k=9 must lie in 1..model.num_experts=4

    Args:
        name: configuration in conf/model; or a shared model: a folder that `push_to_hub` wrote, or a repository of Hugging
            Face, `hf://OWNER/NAME`, `hf://OWNER/NAME@REVISION` or `OWNER/NAME`. None takes the model that the checkpoint was
            saved with.
        ckpt_path: weights: a checkpoint, a safetensors file, a file of the official release, or a run folder. None
            keeps what the configuration brings.
        overrides: as on the command line: `["model.tau=2", "model/router=softmax"]`.
        device: where to put it.
        allow_untrained: let a model without trained weights fuse; its pictures mean nothing.

    Raises:
        ConfigError: unknown names or keys, or neither name nor checkpoint.
        WeightsError: weights that are missing, damaged or of another model.
    """
    if name is not None and (place := shared_place(name)) is not None:
        if ckpt_path is not None or overrides:
            raise ConfigError(
                f"load_model('{name}'): a shared model brings its configuration and weights; give it alone"
            )
        return build_model(None, place, device)
    if name is None:
        if ckpt_path is None:
            raise ConfigError("load_model needs the name of a model, or a ckpt_path that knows its model")
        if overrides:
            raise ConfigError("overrides need the name of a model: load_model(name, ckpt_path, overrides)")
        return build_model(None, ckpt_path, device)
    model = build_model(compose("predict", [f"model={name}", *overrides], "model"), ckpt_path, device)
    if isinstance(model, FusionModel):  # others make no pictures
        model.untrained = model.untrained and not allow_untrained
    return model


def shared_place(name: str) -> str | None:
    """The folder or repository that a name means; None for the name of a configuration.

    Raises:
        ConfigError: a folder that holds no shared model.
    """
    if (place := repository(str(name))) is not None:
        repo, revision = place
        return f"hf://{repo}" + (f"@{revision}" if revision else "")
    path = Path(name).expanduser()
    if not path.is_dir() or (config_dir() / "model" / f"{name}.yaml").is_file():
        return None
    if not is_shared(path):
        run = " (a run folder is given as ckpt_path)" if (path / "run.json").is_file() else ""
        raise ConfigError(f"'{name}': no shared model in this folder; expected {CONFIG}, {WEIGHTS} and {SUMS}{run}")
    return str(path)


def list_models(trained: bool = False) -> list[str]:
    """Names of the models that fuse, for `load_model(name)` and `model=NAME`.

    Args:
        trained: only those that come with trained weights, or need none.
    """
    names = []
    for path in sorted((config_dir() / "model").glob("*.yaml")):
        config = _shallow(path)
        target = str(config.get("_target_", ""))
        if not target or not _fuses(target):
            continue
        needs_none = target.startswith("fusion.models.baselines.")
        brings = any(config.get(key) in SHIPPED_NAMES for key in ("weights", "base_weights"))
        if not trained or needs_none or brings:
            names.append(path.stem)
    return names


def _shallow(path: Path) -> dict[str, Any]:
    """Top level of a model's configuration with what its defaults of the same folder bring; nothing is resolved."""
    own = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(own, dict)
    merged: dict[str, Any] = {}
    for default in own.get("defaults") or []:
        if isinstance(default, str) and default != "_self_" and (path.parent / f"{default}.yaml").is_file():
            merged |= _shallow(path.parent / f"{default}.yaml")
    return merged | {str(key): value for key, value in own.items()}


def _fuses(target: str) -> bool:
    found = hydra.utils.get_object(target)
    return isinstance(found, type) and issubclass(found, FusionModel)


def build_model(
    config: "Mapping[str, Any] | Checkpoint | None", ckpt_path: str | Path | None, device: str | torch.device = "cpu"
) -> FusionModel:
    """Check and build a model, and load its weights.

    Args:
        config: the model's node; a checkpoint that has been read, or None, takes the one recorded there.
        ckpt_path: see `load_model`.
        device: where to put it.
    """
    checkpoint = None
    if config is None or isinstance(config, Checkpoint):
        path, checkpoint = config or Checkpoint.read(ckpt_path or "")
        ckpt_path = path  # found once: it may have been downloaded
        config = recorded_model(checkpoint)
        if config is None:
            raise ConfigError(f"{path} does not say which model it belongs to: name one (model=NAME)")
        model: FusionModel = build_recorded(config, str(path))
    else:
        config = check(config, "model")
        if ckpt_path is not None:
            ckpt_path = find_checkpoint(ckpt_path)  # before anything large is built
        model = cast(FusionModel, new_model(config))
    model.run_name = recorded_name(checkpoint or {})
    if ckpt_path is not None:
        load_checkpoint(model, ckpt_path, checkpoint)
    brings = any(config.get(key) is not None for key in ("weights", "base_weights"))
    if isinstance(model, FusionModel):
        learns = any(parameter.requires_grad for parameter in model.parameters())
        model.untrained = ckpt_path is None and not brings and learns and not model.starts_classic
    return model.to(torch.device(device)).eval()


def new_model(config: Mapping[str, Any]) -> TrainedModel:
    """Build a model from its checked node, which its checkpoints will hold."""
    model: TrainedModel = instantiate(config)
    model.config = dict(config)
    return model


def check_controls(model: FusionModel, controls: dict[str, Any]) -> None:
    """Refuse models that do not fuse, and controls that the model does not know.

    Raises:
        ConfigError: names the nearest control.
    """
    if not isinstance(model, FusionModel):
        raise ConfigError(f"model: {type(model).__name__} does not fuse images; choose a fusion method")
    parameters = inspect.signature(model.forward).parameters.values()
    known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in ("a", "b", "task")]
    for key in controls:
        if key not in known:
            hint = nearest(key, known)
            names = f"did you mean 'control.{hint}'?" if hint else f"it has: {', '.join(known) or 'none'}"
            raise ConfigError(f"control.{key}: {type(model).__name__} has no such control; {names}")
    hints = hints_of(model.forward)
    for key, value in controls.items():
        if key in hints and not fits(value, hints[key]):
            raise ConfigError(f"control.{key}={value!s:.100}: expected {expected(hints[key])}")


def model_of_job(cfg: DictConfig) -> "dict[str, Any] | Checkpoint":
    """What `build_model` builds for a command: the model's node, or the checkpoint if only that was named and knows it."""
    ckpt_path = cfg.get("ckpt_path")
    if ckpt_path is not None and HydraConfig.initialized():
        chosen = [override.lstrip("+").split("=", 1)[0] for override in HydraConfig.get().overrides.task]
        if not any(key == "experiment" or key.split(".")[0].split("/")[0] == "model" for key in chosen):
            path = find_checkpoint(ckpt_path)
            if path.suffix == ".ckpt" or is_shared(path):
                checkpoint = Checkpoint.read(path)
                if recorded_model(checkpoint.content) is not None:
                    return checkpoint
    return plain(cfg.model)


def compose(root: str, overrides: Sequence[str], node: str) -> dict[str, Any]:
    """Compose a root configuration, also inside a running command, and give one of its nodes as plain dictionaries and lists.

    Raises:
        ConfigError: unknown options or keys, with the nearest known one.
    """
    overrides = full_overrides(overrides)
    with _own_hydra():
        try:
            cfg = hydra.compose(root, overrides)
        except HydraException as error:
            raise ConfigError(one_line(error, root, overrides) or str(error)) from error
    return plain(cfg[node])


@contextmanager
def _own_hydra() -> Iterator[None]:
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = running
