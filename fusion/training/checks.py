"""What a training refuses before it starts."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from fusion.errors import ConfigError
from fusion.job.config import check
from fusion.models.base import FusionModel
from fusion.models.trained import TrainedModel


def check_job(cfg: DictConfig) -> None:
    """Refuse a job of a sweep that cannot work.

    Raises:
        FusionError: says why.
    """
    config = check(cfg)
    check_metrics(config["evaluation"])
    check_sharding(config)


def check_metrics(evaluation: Mapping[str, Any]) -> None:
    """Refuse unknown metrics and conventions before anything is built.

    Raises:
        ConfigError: names the nearest known one.
    """
    from fusion.metrics import check_metrics as check_names

    check_names(evaluation["metrics"], evaluation["convention"])


def check_monitor(model: TrainedModel, config: Mapping[str, Any]) -> None:
    """Refuse a monitored metric that this model's validation does not compute.

    Raises:
        ConfigError: lists what it computes.
    """
    monitored = (config.get("monitor") or {}).get("metric")
    if monitored is None or not isinstance(model, FusionModel):
        return
    if type(model).validation_step is not FusionModel.validation_step:
        return
    if monitored.startswith("val/") and monitored.rsplit("/", 1)[-1] not in model.eval_metrics:
        known = ", ".join(f"val/{name}" for name in model.eval_metrics)
        raise ConfigError(f"monitor.metric={monitored} is not computed; evaluation.metrics give {known}")


def check_training_data(data: Any) -> None:
    """Refuse data that are for testing only.

    Raises:
        ConfigError: says how to train on them all the same.
    """
    parts = getattr(data, "parts", None)
    if parts is None or parts["train"]:
        return
    names = [name for part in ("test", "val") for name in parts[part]]
    how = f": +data/set@data.train.{names[0]}={names[0]} trains on the test pairs" if names else ""
    raise ConfigError(f"data.train is empty, there is nothing to train on; choose data with a training part{how}")


def check_crops(model: TrainedModel, data: Mapping[str, Any]) -> None:
    """Refuse crops whose sides the network does not take.

    Args:
        model: with its `size_multiple`, if it has one.
        data: its configuration.

    Raises:
        ConfigError: names the nearest sides that it takes.
    """
    multiple, side = getattr(model, "size_multiple", 1), data.get("crop_size")
    sides = [side] if isinstance(side, int) else list(side or ())
    if any(length % multiple for length in sides):
        taken = [max(1, round(length / multiple)) * multiple for length in sides]
        shown = str(taken[0]) if len(taken) == 1 else str(taken).replace(" ", "")
        raise ConfigError(
            f"data.crop_size={side}: {type(model).__name__} takes crops whose sides are multiples of {multiple} pixels: "
            f"data.crop_size={shown}"
        )


def check_sharding(config: Mapping[str, Any]) -> None:
    """Refuse what needs whole weights where FSDP shares them out.

    Raises:
        ConfigError: says what to leave out.
    """
    strategy = config["trainer"].get("strategy")
    sharded = isinstance(strategy, Mapping) and str(strategy.get("_target_")).rsplit(".", 1)[-1] == "FSDP"
    if sharded and (config.get("callbacks") or {}).get("ema"):
        raise ConfigError("callbacks.ema averages whole weights, which FSDP shards: add callbacks.ema=null")
