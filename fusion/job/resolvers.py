"""Values that configurations compute, such as `${run_folder:...}` and `${run_name:}`. Imported with `fusion.job.config`."""

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import ListConfig, OmegaConf

from fusion.errors import ConfigError

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints in a run folder."""


def run_folder(resume: str | None, run_dir: str) -> str:
    """Folder a job works in: the one it resumes, else `run_dir`. The configs have it as `${run_folder:...}`.

    Raises:
        ConfigError: an empty `run_dir`, which Hydra would take for the working folder.
    """
    if not resume:
        if not str(run_dir or "").strip():
            raise ConfigError(f"run_dir={run_dir or '(empty)'}: expected a path")
        return run_dir
    path = Path(resume)
    if path.suffix != ".ckpt":
        return str(path)
    return str(path.parent.parent if path.parent.name == CHECKPOINTS else path.parent)


def run_name() -> str:
    """Default name of a run, the resolver `${run_name:}`: the chosen experiment, else the model."""
    if not HydraConfig.initialized():
        return "run"
    choices = HydraConfig.get().runtime.choices
    return str(choices.get("experiment") or choices.get("model") or "run").replace("/", "_")


def parallel_jobs() -> int:
    """Jobs that fit on this machine side by side: one per GPU; without one a quarter of the cores, at least 2."""
    from torch.cuda import device_count

    return device_count() or max(2, (os.cpu_count() or 1) // 4)


def tasks_per_node(devices: object) -> int:
    """Processes that `trainer.devices` asks for on each machine; 1 where it leaves the number open."""
    if isinstance(devices, list | tuple | ListConfig):
        return len(devices)
    text = str(devices)
    return max(1, int(text)) if text.lstrip("-").isdigit() else 1


def job_label() -> str:
    """What differs in this job of a sweep, such as `N4 K2 tau4 s0`; empty outside of sweeps."""
    return os.environ.get("FUSION_JOB_LABEL", "")


def sweep_name() -> str | None:
    """Name of the sweep that a job belongs to (`fusion.job.sweep.group_of`); None outside of sweeps."""
    return os.environ.get("FUSION_SWEEP_GROUP")


def run_title(name: str) -> str:
    """Name of a run towards loggers: what differs in its sweep, else its own name."""
    return job_label() or name


def job_type() -> str:
    """The command that runs: train, evaluate."""
    return str(HydraConfig.get().job.config_name or "train") if HydraConfig.initialized() else "train"


def run_tags() -> ListConfig:
    """Model, data and experiment of a run, and "sweep" for a job of one."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    chosen = [str(choices[key]) for key in ("experiment", "model", "data") if choices.get(key)]
    return ListConfig([*dict.fromkeys(chosen), *(["sweep"] if job_label() else [])])


def mixed_precision(wanted: str, accelerator: str = "auto") -> str:
    """A mixed precision where the machine is faster with it: on GPUs, and on processors with matrix units for bfloat16.

    Elsewhere "32-true": other processors have bfloat16 arithmetic too, but the casts cost more than it saves (a dry run
    of TC-MoA large on a processor with avx512_bf16: 197 s in float32, over 540 s in bfloat16).
    """
    import torch

    if accelerator in ("gpu", "cuda") or (accelerator != "cpu" and torch.cuda.is_available()):
        return wanted
    has_units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return "bf16-mixed" if has_units else "32-true"


OmegaConf.register_new_resolver("mixed_precision", mixed_precision, replace=True)
OmegaConf.register_new_resolver("run_title", run_title, replace=True)
OmegaConf.register_new_resolver("job_type", job_type, replace=True)
OmegaConf.register_new_resolver("run_tags", run_tags, replace=True)
OmegaConf.register_new_resolver("parallel_jobs", parallel_jobs, replace=True)
OmegaConf.register_new_resolver("tasks_per_node", tasks_per_node, replace=True)
OmegaConf.register_new_resolver("job_label", job_label, replace=True)
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
