"""The scores of an evaluation in its loggers: means as metrics, tables and the contact sheet in W&B."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from fusion.job.config import flatten, instantiate
from fusion.training.callbacks.wandb_board import score_table


def open_loggers(config: Mapping[str, Any]) -> list[Logger]:
    """The loggers that an evaluation's configuration asks for (logger=wandb, logger=csv)."""
    nodes = [node for node in (config.get("logger") or {}).values() if node and "_target_" in node]
    loggers: list[Logger] = [instantiate(node) for node in nodes]
    kept = {key: config.get(key) for key in ("model", "data", "ckpt_path", "part", "suite", "evaluation", "seed")}
    for logger in loggers:
        logger.log_hyperparams(flatten(kept))
    return loggers


def log_scores(loggers: Sequence[Logger], rows: list[dict[str, Any]], metrics: Sequence[str], folder: Path) -> None:
    """Log means per data set and method as `<data set>/<method>/<metric>`, and W&B's tables `scores` and `summary`.

    Args:
        loggers: of the evaluation.
        rows: scores per method and image.
        metrics: columns that are scores.
        folder: run folder with the contact sheet.
    """
    means = mean_rows(rows, metrics)
    flat = {f"{row['dataset']}/{row['method']}/{metric}": row[metric] for row in means for metric in metrics}
    for logger in loggers:
        logger.log_metrics(flat, step=0)
        if isinstance(logger, WandbLogger) and rows:
            import wandb

            logged: dict[str, Any] = {"scores": score_table(rows), "summary": score_table(means)}
            if (sheet := folder / "contact_sheet.png").is_file():
                logged["contact_sheet"] = wandb.Image(str(sheet))
            logger.experiment.log(logged)
        logger.finalize("success")
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb

        wandb.finish()


def mean_rows(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Means per data set and method."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["method"]), []).append(row)
    return [
        {"dataset": dataset, "method": method, "pairs": len(group)}
        | {m: fmean(row[m] for row in group) for m in metrics}
        for (dataset, method), group in groups.items()
    ]
