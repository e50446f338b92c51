"""The model of a job and its steering: what does nothing is refused, since it was meant to change the picture."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from fusion.api import build_model, check_controls, model_of_job
from fusion.device import pick_device
from fusion.errors import ConfigError, FusionError
from fusion.models.base import FusionModel


def check_effect(model: FusionModel, task: str, controls: dict[str, Any]) -> None:
    """Refuse a control that changes nothing, tried on a small made-up pair.

    A control at its default is fine, and so is one whose lack of effect the model explains itself. One that the model cannot
    take with so small a pair is left to the real pictures.

    Args:
        model: the model.
        task: as it is going to be used.
        controls: steering of `fuse`.

    Raises:
        ConfigError: names the control.
    """
    defaults = {name: p.default for name, p in inspect.signature(model.forward).parameters.items()}
    changed = {key: value for key, value in controls.items() if value != defaults.get(key)}
    if not changed:
        return
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, *model.example_size, generator=generator) for _ in range(2))
    try:
        steered = model.fuse(a, b, task, **controls).fused
        for key, value in changed.items():
            if key in model.explained_controls:
                continue
            rest = {name: given for name, given in controls.items() if name != key}
            if torch.equal(steered, model.fuse(a, b, task, **rest).fused):
                others = ", ".join(f"control.{name}" for name in rest) or "the defaults"
                raise ConfigError(
                    f"control.{key}={value} has no effect on {type(model).__name__} for task={task} beside {others}: leave it "
                    "out, or set what it depends on"
                )
    except ConfigError:
        raise
    except (FusionError, RuntimeError, ValueError, TypeError):
        return


def ready_model(cfg: DictConfig, options: Mapping[str, Any], controls: Mapping[str, Any]) -> FusionModel:
    """The model of a job that fuses files, once it is known that it is trained and that the controls act on it.

    Args:
        cfg: of the job, with `model`, `ckpt_path` and `device`.
        options: `task` and `allow_untrained` of conf/predict.yaml.
        controls: those that are given.

    Raises:
        FusionError: no such model, no weights, or controls that the model does not have.
    """
    model = build_model(model_of_job(cfg), cfg.ckpt_path, pick_device(cfg.device))
    check_controls(model, dict(controls))
    model.untrained = model.untrained and not options["allow_untrained"]
    model.refuse_untrained()
    check_effect(model, options["task"], dict(controls))
    return model
