"""One training run, from a configuration to its results."""

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from fusion.api import new_model
from fusion.errors import ConfigError, FusionError, WeightsError
from fusion.job.config import check, first_line, flatten, instantiate
from fusion.job.launch import check_shared_folder, launch, launched, process_count
from fusion.job.records import checkpoint_to_continue
from fusion.job.resolvers import job_label
from fusion.job.resuming import check_resumable, fingerprint, given_overrides, resume_checkpoint
from fusion.job.runs import RunFolder, read_results, recorded_again
from fusion.models.base import FusionModel
from fusion.models.trained import TrainedModel
from fusion.training.callbacks.best_epoch import best_epoch
from fusion.training.callbacks.checkpoints import LastCheckpoint
from fusion.training.checkpoint_io import AtomicCheckpointIO
from fusion.training.checks import check_crops, check_metrics, check_monitor, check_sharding, check_training_data
from fusion.training.dry_run import dry_run_data
from fusion.training.opening import Opening
from fusion.training.quiet import hush
from fusion.training.wandb_staging import stage_in


def train(cfg: DictConfig) -> float | None:
    """Train as configured, in the folder `paths.output_dir`.

    Args:
        cfg: composed configuration of conf/train.yaml.

    Returns:
        The monitored metric (its best value where checkpoints track it), for sweepers; None if it was never computed.

    Raises:
        FusionError: for mistakes the user can mend, most of them before anything is built.
    """
    config = check(cfg)
    check_metrics(config["evaluation"])
    check_sharding(config)
    folder = Path(config["paths"]["output_dir"])
    processes = process_count(config["trainer"])
    overrides = given_overrides()
    checkpoint = resume_checkpoint(config.get("resume") or _requeued(folder, overrides))
    if checkpoint is not None:
        check_resumable(checkpoint, fingerprint(config), force=config.get("force_resume", False))
    if processes > 1 and not launched():
        launch("fusion.train", processes, config["trainer"], folder, str(checkpoint) if checkpoint else None)
        return read_results(folder).get("value")
    check_shared_folder()
    run = RunFolder(folder, config, resuming=checkpoint is not None, overrides=overrides)
    stage_in(folder)
    status = "failed"
    loggers: list[Logger] = []
    started = Started(run.accept)
    try:
        value = _fit(config, run, checkpoint, loggers, started)
        status = "finished"
    except (KeyboardInterrupt, SystemExit):
        status = "interrupted"
        if run.writes and not job_label() and (kept := checkpoint_to_continue(folder)):
            print(f"interrupted; continue with: python -m fusion.train resume={kept}")
        raise
    except FusionError:
        raise
    except MisconfigurationException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except torch.OutOfMemoryError as error:
        raise FusionError(
            f"out of GPU memory ({first_line(error)}): lower data.batch_size or data.crop_size, or trainer.precision"
        ) from error
    except OSError:
        raise  # the disk, not the checkpoint
    except Exception as error:
        if checkpoint is not None and not started.has and run.writes:
            raise WeightsError(
                f"{checkpoint}: training cannot go on from it ({type(error).__name__}: {first_line(error):.200})"
            ) from error
        raise
    finally:
        if not started.has and status == "failed":
            status = "refused"
        _close(run, status, loggers)
    if run.writes:
        print(f"run folder: {folder}\nreport: python -m fusion.report run={folder}")
    return value


def _close(run: RunFolder, status: str, loggers: list[Logger]) -> None:
    try:
        run.finish(status)
        _finish_loggers(loggers, status)
    except OSError as error:  # a full disk: what broke the run is on its way already
        if status == "finished":
            raise
        logging.getLogger(__name__).warning("%s: %s", run.path, error)


class Started(Callback):
    """Tells when a training has begun: what came before it is a refusal."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell, self.has = tell, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.has = True
        self.tell()


def _requeued(folder: Path, overrides: list[str]) -> str | None:
    """What a job goes on from that SLURM has started again with the same command; None if it is new, or started by hand."""
    again = os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")
    kept = checkpoint_to_continue(folder) if again and recorded_again(folder, overrides) else None
    return None if kept is None else str(kept)


def _fit(
    config: dict[str, Any], run: RunFolder, checkpoint: Path | None, loggers: list[Logger], started: Started
) -> float | None:
    hush()
    torch.set_float32_matmul_precision(config.get("matmul_precision") or "highest")
    seed_everything(config["seed"], workers=True, verbose=False)
    model = model_to_train(config)
    check_monitor(model, config)
    check_crops(model, config["data"])
    data = dry_run_data(config) if config["trainer"].get("fast_dev_run") else instantiate(config["data"])
    check_training_data(data)
    loggers += [_build_logger(node, run) for node in _chosen(config.get("logger"))]
    callbacks: list[Callback] = [instantiate(node) for node in _chosen(config.get("callbacks"))]
    callbacks.append(Opening(run.path, str(config.get("name") or config["model"]["_target_"])))
    if not loggers:  # it insists on one
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    trainer = build_trainer(config["trainer"], [started, *callbacks], loggers)
    for logger in loggers:
        logger.log_hyperparams(
            flatten({key: config.get(key) for key in ("model", "data", "optimizer", "scheduler", "seed")})
        )
    before = read_results(run.path) if checkpoint is not None else {}
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
    last = next((callback for callback in callbacks if isinstance(callback, LastCheckpoint)), None)
    if checkpoint is not None and not metrics:  # nothing was left to train
        if before:
            print("nothing left to do: raise trainer.max_epochs or trainer.max_steps to train on; the results stay")
            return before.get("value")
        metrics = last.metrics if last is not None else {}
        if not metrics:  # an older checkpoint, without them
            trainer.loggers = []  # this validation has its row already
            trainer.validate(model, data, verbose=False)
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
    best = _best_checkpoint(trainer, config.get("monitor", {}).get("metric"))
    value = best.best_model_score if best is not None else None
    value = float(value) if value is not None else metrics.get(config.get("monitor", {}).get("metric"))
    if config.get("test_after_fit"):
        if last is not None:
            last.stop_if_told(trainer)
        path = best.best_model_path if best is not None and best.best_model_path else None
        trainer.test(model, data, ckpt_path=path, weights_only=True, verbose=run.writes)
        metrics |= {key: float(number) for key, number in trainer.callback_metrics.items() if key.startswith("test/")}
    run.write_results(
        {
            "value": value,
            "monitor": config.get("monitor", {}).get("metric"),
            "epoch": trainer.current_epoch,
            "global_step": trainer.global_step,
            "best_checkpoint": best.best_model_path if best is not None else None,
            "metrics": metrics,  # of the last epoch, and of the test
            "best": best_epoch(trainer),  # epoch (from 0), step and metrics of the best one
        }
    )
    return value


def model_to_train(config: Mapping[str, Any]) -> TrainedModel:
    """Build the model of a plain training configuration, with its optimiser, schedule and evaluation metrics."""
    model = new_model(config["model"])
    model.run_name = config.get("name")
    model.fingerprint = fingerprint(dict(config))
    model.optimizer = instantiate(config.get("optimizer"))
    if config.get("fused_optimizer"):
        model.optimizer = fused(model.optimizer, config["trainer"])
    model.scheduler = instantiate(config.get("scheduler"))
    if isinstance(model, FusionModel):
        evaluation = config.get("evaluation") or {}
        model.eval_metrics = tuple(evaluation.get("metrics", model.eval_metrics))
        model.eval_convention = evaluation.get("convention", model.eval_convention)
    if config.get("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    if config.get("compile"):
        model.compile_network(config["compile"])
    return model


def fused(optimizer: Any, trainer: Mapping[str, Any]) -> Any:
    """The optimiser's recipe, asking for its fused form where it has one.

    A fused optimiser undoes the loss scale of 16-mixed by itself, so that gradients cannot be clipped before; Lightning refuses to
    clip those of any fused optimiser under autocast.
    """
    maker = getattr(optimizer, "func", None)
    clipped = trainer.get("gradient_clip_val") and str(trainer.get("precision")) in (
        "16-mixed",
        "bf16-mixed",
        "16",
        "bf16",
    )
    if maker is None or clipped or "fused" in optimizer.keywords:
        return optimizer
    if "fused" not in inspect.signature(maker).parameters:
        return optimizer
    return partial(optimizer, fused=True)


def build_trainer(node: Mapping[str, Any], callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    """Build the trainer.

    Raises:
        ConfigError: what Lightning has against a value.
    """
    try:
        given = {} if node.get("plugins") else {"plugins": [AtomicCheckpointIO()]}
        return instantiate(node, callbacks=callbacks, logger=loggers or False, **given)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error


def _chosen(group: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Nodes of a group of switchable parts; null switches one off."""
    return [node for node in (group or {}).values() if isinstance(node, dict) and "_target_" in node]


def _build_logger(node: dict[str, Any], run: RunFolder) -> Logger:
    extra = {"id": run.logger_id} if "wandb" in node["_target_"].lower() and not node.get("id") else {}
    return instantiate(node, **extra)


def _best_checkpoint(trainer: Trainer, metric: str | None) -> Any:
    for callback in trainer.checkpoint_callbacks:
        if metric is not None and getattr(callback, "monitor", None) == metric:
            return callback
    return None


def _finish_loggers(loggers: list[Logger], status: str) -> None:
    """Close what loggers keep open, so that the next job of a sweep gets a run of its own."""
    if any("wandb" in type(logger).__name__.lower() for logger in loggers):
        import wandb

        if wandb.run is not None:
            wandb.finish(exit_code=0 if status == "finished" else 1)
