"""What a run shows in Weights & Biases beside its curves: best values, tables with pictures, histograms, its state."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from torchvision.transforms.functional import to_pil_image

from fusion.job.records import read_json
from fusion.training.callbacks.best_epoch import BestEpoch, best_epoch
from fusion.training.callbacks.images import ImageLogger
from fusion.training.callbacks.routing_monitor import RoutingMonitor
from fusion.training.callbacks.sheet import Row, draw

STEP = "trainer/global_step"


class WandbBoard(Callback):
    """Adds to every W&B run of the trainer, and does nothing where there is none.

    The summary has the best monitored value (`<monitor>.max` or `.min`) and, below `best/`, every number of that epoch: the
    same as results.json and the sweep's table. `val/scores` holds the scores of every image, `val/pictures` a few pairs with
    what was made of them, `routing/<task>/<site>/experts` how the gates share themselves out.

    Args:
        run_dir: run folder, for its configuration and its commit.
        monitor: name of the monitored metric.
        mode: "max" or "min".
        artifacts: also keep config.yaml and the best checkpoint as artifacts.
    """

    def __init__(self, run_dir: str, monitor: str | None = None, mode: str = "max", artifacts: bool = False) -> None:
        self.run_dir = Path(run_dir)
        self.monitor, self.mode, self.artifacts = monitor, mode, artifacts

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for run in _runs(trainer):
            if self.monitor:
                run.define_metric(self.monitor, step_metric=STEP, summary=self.mode)
            run.config.update(self._state(trainer), allow_val_change=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        for run in _runs(trainer):
            logged: dict[str, Any] = dict(_histograms(trainer))
            watch = _callback(trainer, BestEpoch)
            if watch is None or watch.improved:
                rows = getattr(pl_module, "last_rows", [])
                if rows:
                    logged["val/scores"] = score_table(rows, trainer.current_epoch)
                if (panel := _callback(trainer, ImageLogger)) is not None and panel.latest:
                    import wandb

                    logged["val/pictures"] = picture_table(panel.latest, rows, trainer.current_epoch)
                    logged["val/panel"] = wandb.Image(draw(panel.latest, panel.size))
            if logged:
                run.log(logged | {STEP: trainer.global_step})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        best = best_epoch(trainer)
        for run in _runs(trainer):
            if best:
                shown = {f"best/{key}": value for key, value in best["metrics"].items()}
                run.summary.update(shown | {"best/epoch": best["epoch"] + 1})
            if self.artifacts:
                self._keep(run)

    def _state(self, trainer: Trainer) -> dict[str, Any]:
        """Code and data of the run, as W&B configuration."""
        manifest = read_json(self.run_dir / "run.json")
        part = (manifest.get("parts") or [{}])[-1]
        state = {key: part.get(key) for key in ("git", "versions", "hardware") if part.get(key)}
        data: dict[str, Any] = {}
        for name, sets in getattr(trainer.datamodule, "parts", {}).items():  # type: ignore[attr-defined]
            if name == "predict":
                continue
            data[name] = {key: {"pairs": _count(one), "task": getattr(one, "task", None)} for key, one in sets.items()}
        return state | {"pairs": data, "overrides": manifest.get("overrides", [])}

    def _keep(self, run: Any) -> None:
        import wandb

        for kind, path in (("config", "config.yaml"), ("model", "checkpoints/best.ckpt")):
            if (self.run_dir / path).is_file():
                artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
                artifact.add_file(str(self.run_dir / path))
                run.log_artifact(artifact)


def score_table(rows: list[dict[str, Any]], epoch: int | None = None) -> Any:
    """Scores per image as a `wandb.Table`; `epoch` (from 0) becomes a column."""
    import wandb

    columns = list(rows[0])
    first = [] if epoch is None else [epoch + 1]
    data = [[*first, *(row.get(key) for key in columns)] for row in rows]
    return wandb.Table(columns=[*(["epoch"] if first else []), *columns], data=data)


def picture_table(rows: list[Row], scores: list[dict[str, Any]], epoch: int | None = None) -> Any:
    """Pairs with their pictures, prompts and scores as a `wandb.Table`."""
    import wandb

    captions = list(dict.fromkeys(_column(caption) for row in rows for caption in row.captions))
    metrics = [key for key in (scores[0] if scores else {}) if key not in ("method", "dataset", "name", "task")]
    values = {(row["dataset"], row["name"]): row for row in scores}
    first = [] if epoch is None else ["epoch"]
    table = wandb.Table(columns=[*first, "task", "dataset", "name", *captions, *metrics])
    for row in rows:
        pictures = {
            _column(caption): wandb.Image(to_pil_image(picture), caption=caption)
            for caption, picture in zip(row.captions, row.pictures, strict=True)
        }
        score = values.get((row.dataset or row.task, row.name), {})
        start = [] if epoch is None else [epoch + 1]
        cells = [*(pictures.get(caption) for caption in captions), *(score.get(metric) for metric in metrics)]
        table.add_data(*start, row.task, row.dataset, row.name, *cells)
    return table


def _column(caption: str) -> str:
    """Rows of all tasks share the columns a and b."""
    return caption.split(":", 1)[0]


def _histograms(trainer: Trainer) -> dict[str, Any]:
    """Share of the gates that each expert gets, by task and site; bin i is expert i."""
    import wandb

    watch = _callback(trainer, RoutingMonitor)
    found = {}
    for (task, site), shares in (watch.latest if watch is not None else {}).items():
        edges = np.arange(len(shares) + 1) - 0.5
        found[f"routing/{task}/{site}/experts"] = wandb.Histogram(np_histogram=(np.asarray(shares), edges))
    return found


def _runs(trainer: Trainer) -> list[Any]:
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _callback(trainer: Trainer, kind: type[Any]) -> Any:
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)  # type: ignore[attr-defined]


def _count(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except Exception:  # one that is not there; training has said so where it matters
        return None
