"""Models on a data set: fused images, scores per image, means per method and data set."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from lightning import Callback, seed_everything
from omegaconf import DictConfig, OmegaConf

from fusion.api import Checkpoint, build_model, check_controls, load_model, model_of_job
from fusion.data.loading.datamodule import FusionDataModule
from fusion.data.sources import DEPTH_CHOICES
from fusion.errors import ConfigError
from fusion.files import markdown, write_csv, write_text
from fusion.job.config import check, config_dir, instantiate, nearest, plain
from fusion.job.launch import check_shared_folder, launch, launched, process_count
from fusion.job.measured import record
from fusion.job.resuming import given_overrides
from fusion.job.runs import RunFolder, read_results
from fusion.metrics import MetricKey, Suite, full_reference, info
from fusion.models.base import FusionModel
from fusion.models.color import check_color
from fusion.models.memory import memory_limit
from fusion.scoring.board import log_scores, mean_rows, open_loggers
from fusion.scoring.deep import DeepResults
from fusion.training.callbacks.contact_sheet import ContactSheet
from fusion.training.callbacks.prediction_writer import PredictionWriter
from fusion.training.callbacks.progress import progress_bar
from fusion.training.checks import check_metrics
from fusion.training.fit import build_trainer
from fusion.training.opening import Opening
from fusion.training.quiet import hush
from fusion.training.wandb_staging import stage_in

Row = dict[str, Any]
LABELS: tuple[str, ...] = ("method", "dataset", "task", "name")


class Column(NamedTuple):
    """A metric as computed, and how a table shows it."""

    name: str
    heading: str
    decimals: int


def evaluate(cfg: DictConfig) -> float | None:
    """Fuse and score one part of the data with a model and with the baselines.

    Leaves in the run folder: `fused/<method>/<data set>/`, `scores.csv` (a row per method and image), `summary.csv` and
    `summary.md` (means per method and data set), `contact_sheet.png` (some pairs with what the model made of them), and what
    `downstream=` adds.

    Returns:
        The mean of the monitored metric over the model's images, for sweepers.
    """
    skipped = ("callbacks", "optimizer", "scheduler", "control")
    config: dict[str, Any] = {str(key): plain(cfg[key]) for key in cfg if key not in skipped}
    check({key: config[key] for key in ("data", "trainer", "downstream") if config.get(key)})
    columns = choose_columns(config)
    folder = Path(config["paths"]["output_dir"])
    check_color(config["color"])
    memory_limit(config["max_memory"], torch.device("cpu"))
    if str(config["depth"]) not in DEPTH_CHOICES:
        raise ConfigError(f"depth={config['depth']}: expected one of {', '.join(DEPTH_CHOICES)}")
    if config["part"] not in ("test", "val"):
        raise ConfigError(f"part={config['part']}: expected test or val")
    processes = process_count(config["trainer"])
    if processes > 1 and not launched():
        launch("fusion.evaluate", processes, config["trainer"], folder)
        return read_results(folder).get("value")
    check_shared_folder()
    hush()
    seed_everything(config["seed"], workers=True, verbose=False)
    settings = {**config, "control": plain(cfg.control)}
    run = RunFolder(folder, settings, False, given_overrides(), hint="choose another run_dir")
    status = "failed"
    try:
        value = _evaluate(cfg, config, columns, folder, run)
        status = "finished"
    except (KeyboardInterrupt, SystemExit):
        status = "interrupted"
        raise
    finally:
        run.finish("refused" if status == "failed" and not run.accepted else status)
    return value


def _evaluate(
    cfg: DictConfig, config: dict[str, Any], columns: list[Column], folder: Path, run: RunFolder
) -> float | None:
    controls = {key: value for key, value in (plain(cfg.control) or {}).items() if value is not None}
    wanted = model_of_job(cfg)
    model = build_model(wanted, cfg.ckpt_path)
    check_controls(model, controls)
    model.untrained = model.untrained and not config["allow_untrained"]
    model.refuse_untrained()
    model.eval_controls = controls
    data: FusionDataModule = instantiate(config["data"])
    recorded = model.run_name if isinstance(wanted, Checkpoint) else None
    downstream = instantiate(config.get("downstream"))
    run.accept()
    stage_in(folder)
    metrics = [column.name for column in columns]
    loggers = open_loggers(config) if os.environ.get("RANK", "0") == "0" else []
    sheet = [ContactSheet(str(folder / "contact_sheet.png"))] if config["contact_sheet"] else []
    name = recorded or config["name"]
    watchers = [] if downstream is None else [downstream.callback(name)]
    opening = Opening(folder, name)
    rows = score_model(name, model, data, metrics, config, folder, [opening, *sheet, *watchers])
    own = len(rows)
    for name in config["baselines"]:
        watchers = [] if downstream is None else [downstream.callback(name)]
        rows += score_model(name, load_model(name), data, metrics, config, folder, watchers)
    metric = str((config["monitor"] or {}).get("metric")).rsplit("/", 1)[-1]
    values = [row[metric] for row in rows[:own] if metric in row]
    value = fmean(values) if values else None
    if os.environ.get("RANK", "0") == "0":
        write_tables(rows, folder, columns)
        run.write_results({"value": value, "monitor": metric, "metrics": {}})
        print((folder / "summary.md").read_text(), end="")
        for path in [] if downstream is None else downstream.write(folder):
            print(path.read_text() if path.suffix == ".md" else path)
        log_scores(loggers, rows, metrics, folder)
        if config["record"]:
            record(config["record"], mean_rows(rows, metrics), ("method", "dataset"))
        print(f"run folder: {folder}\nreport: python -m fusion.report run={folder}")
        if sheet:
            print(f"contact sheet: {folder / 'contact_sheet.png'}")
    return value


def score_model(
    name: str,
    model: FusionModel,
    data: FusionDataModule,
    metrics: list[str],
    config: dict[str, Any],
    folder: Path,
    extra: Sequence[Callback] = (),
) -> list[Row]:
    """Fuse and score one part of the data with one model.

    Args:
        name: of the method, in tables and folders.
        model: the model.
        data: data module.
        metrics: names for `fusion.metrics.compute`.
        config: plain configuration of conf/evaluate.yaml.
        folder: run folder.
        extra: further callbacks.

    Returns:
        One row per image, the same on every rank.
    """
    model.eval_metrics, model.eval_convention = tuple(metrics), config["evaluation"]["convention"]
    model.run_name = name
    model.eval_references = True
    model.eval_color, model.max_memory = config["color"], config["max_memory"]
    callbacks: list[Callback] = [progress_bar(), *extra]
    if config["save_images"]:
        deep = DeepResults(
            list(getattr(data, "parts", {}).get(config["part"], {}).values()), config["color"], config["depth"]
        )
        callbacks.append(PredictionWriter(str(folder / "fused" / name), config["image_suffix"], deeper=deep.write))
    node = {**config["trainer"], "enable_model_summary": False, "enable_checkpointing": False}
    trainer = build_trainer(node, callbacks, [])
    run = trainer.test if config["part"] == "test" else trainer.validate
    run(model, datamodule=data, verbose=False)
    return [{"method": name} | row for row in model.last_rows]


def choose_columns(config: dict[str, Any]) -> list[Column]:
    """The columns of the tables: those of the chosen suite, else `evaluation.metrics`.

    Raises:
        ConfigError: an unknown suite, metric or convention.
    """
    name = config["suite"]
    if name is None:
        check_metrics(config["evaluation"])
        convention = config["evaluation"]["convention"]
        about = {text: info(MetricKey.parse(text, convention).name) for text in config["evaluation"]["metrics"]}
        return [Column(text, f"{text} {known.arrow}", known.decimals) for text, known in about.items()]
    known = sorted(path.stem for path in (config_dir() / "metrics").glob("*.yaml"))
    if name not in known:
        hint = nearest(name, known)
        meant = f"did you mean '{hint}'? " if hint else ""
        raise ConfigError(f"suite={name}: no such suite; {meant}known: {', '.join(known)}")
    suite = Suite.from_config(plain(OmegaConf.load(config_dir() / "metrics" / f"{name}.yaml")))
    return [Column(str(column.key), column.heading, column.decimals) for column in suite.columns]


def write_tables(rows: list[Row], folder: Path, columns: list[Column]) -> None:
    """Write scores per image, and their means per method and data set as CSV and Markdown.

    Data sets with ground truth have columns for their full-reference scores; they are empty for the others.
    """
    against = [name for name in full_reference.NAMES if any(name in row for row in rows)]
    columns = [*columns, *(Column(n, f"{n} {full_reference.ARROW}", full_reference.DECIMALS[n]) for n in against)]
    metrics = [column.name for column in columns]
    write_csv(folder / "scores.csv", [dict.fromkeys(metrics, "") | row for row in rows], [*LABELS, *metrics])
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["method"]), []).append(row)
    table = [
        [dataset, method, len(group), *(_mean(group, metric) for metric in metrics)]
        for (dataset, method), group in sorted(groups.items(), key=lambda item: item[0][0])
    ]
    keys = ["dataset", "method", "pairs", *metrics]
    write_csv(folder / "summary.csv", [dict(zip(keys, line, strict=True)) for line in table], keys)
    header = ["dataset", "method", "pairs", *(column.heading for column in columns)]
    write_text(folder / "summary.md", markdown(header, table, [4, 4, 4, *(column.decimals for column in columns)]))


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    values = [row[metric] for row in rows if metric in row]
    return fmean(values) if values else None
