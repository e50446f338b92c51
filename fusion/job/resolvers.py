"""Values that configurations compute: `${run_folder:...}` and `${run_name:}`. Imported with `fusion.job.config`."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints in a run folder."""


def run_folder(resume: str | None, run_dir: str) -> str:
    """Folder a job works in: the one it resumes, else `run_dir`. The configs have it as `${run_folder:...}`."""
    if not resume:
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


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
