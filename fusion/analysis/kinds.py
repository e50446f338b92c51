"""The kinds of analyses, and what each gets: a model with pairs, or the folder of runs."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import seed_everything
from omegaconf import DictConfig

from fusion.analysis.bias import FIELDS, bias
from fusion.analysis.expert_maps import expert_maps
from fusion.analysis.experts import experts
from fusion.analysis.features import features
from fusion.analysis.gates import gates
from fusion.analysis.prompts import prompts
from fusion.analysis.routing import routing
from fusion.analysis.scenes import Study, scenes
from fusion.analysis.sweep import sweep
from fusion.api import build_model, model_of_job
from fusion.data.loading.datamodule import FusionDataModule
from fusion.device import pick_device
from fusion.errors import ConfigError
from fusion.job.config import check, instantiate, nearest, plain
from fusion.job.measured import record

OF_MODELS: dict[str, Callable[[Study], list[Path]]] = {
    "routing": routing,
    "prompts": prompts,
    "bias": bias,
    "experts": experts,
    "expert_maps": expert_maps,
    "features": features,
}
OF_FOLDERS: dict[str, Callable[[Path, Path, dict[str, Any]], list[Path]]] = {"sweep": sweep, "gates": gates}
KINDS = (*OF_MODELS, *OF_FOLDERS)


def analyze(cfg: DictConfig) -> list[Path]:
    """Make the tables and figures of one kind in the run folder.

    Returns:
        The files written.

    Raises:
        FusionError: mistakes the user can mend.
    """
    kind = cfg.kind
    if kind not in KINDS:
        hint = nearest(str(kind), KINDS) if kind else None
        raise ConfigError(f"kind={kind}: {f'did you mean {hint}? ' if hint else ''}known: {', '.join(KINDS)}")
    folder = Path(plain(cfg.paths)["output_dir"])
    options = plain(cfg[kind])
    if kind in OF_FOLDERS:
        if cfg.dir is None:
            what = (
                "a sweep: dir=FOLDER, as python -m fusion.train -m"
                if kind == "sweep"
                else "a run: dir=FOLDER, as training"
            )
            raise ConfigError(f"kind={kind} needs the folder of {what} printed it")
        paths = OF_FOLDERS[kind](Path(cfg.dir).expanduser(), folder, options)
    else:
        paths = OF_MODELS[kind](study(cfg, folder, options))
    if cfg.record is not None:
        _record(kind, Path(cfg.record), paths)
    for path in paths:
        print(path)
    return paths


def _record(kind: str, target: Path, paths: list[Path]) -> None:
    """Keep the rows of a sweep's or the bias's table with their origin.

    Raises:
        ConfigError: the kind has no such rows.
    """
    tables = {path.name: path for path in paths if path.suffix == ".csv"}
    source = tables.get("sweep_settings.csv") or tables.get("sweep.csv") or tables.get("bias.csv")
    if source is None:
        raise ConfigError(f"record={target}: kind={kind} has no numbers to keep; kind=sweep and kind=bias have")
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = [key for key in rows[0] if "/" not in key and key not in ("job", "jobs", "epoch", "tokens", *FIELDS)]
    record(target, rows, labels)


def study(cfg: DictConfig, folder: Path, options: dict[str, Any]) -> Study:
    """The model and the pairs that a job asks for.

    Raises:
        FusionError: a model that cannot be built, or data that are not there.
    """
    if cfg.part not in ("test", "val", "train"):
        raise ConfigError(f"part={cfg.part}: expected test, val or train")
    config = check(plain(cfg.data), "data")
    seed_everything(cfg.seed, workers=True, verbose=False)
    model = build_model(model_of_job(cfg), cfg.ckpt_path, pick_device(cfg.device))
    data = instantiate(config)
    if not isinstance(data, FusionDataModule):
        raise ConfigError(f"data: {type(data).__name__} is no FusionDataModule, which analyses take their pairs from")
    data.prepare_data()
    datasets = list(data.parts[cfg.part].values())
    return Study(model, lambda: scenes(datasets, cfg.pairs_per_task, cfg.max_side, model), folder, options)
