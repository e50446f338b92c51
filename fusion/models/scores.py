"""A table of per-image scores that counts every image once, however many processes share the work."""

from statistics import fmean
from typing import Any, cast

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.ranks import gather_images


class ScoreTable:
    """Collects per-image scores on the device and turns them into rows at the end, so that no step waits for them."""

    def __init__(self) -> None:
        self._parts: list[tuple[list[str], list[str], str, dict[str, Tensor]]] = []

    def add(self, batch: FusionBatch, values: dict[str, Tensor]) -> None:
        """Add one batch: `values` maps each metric to a `(B,)` tensor."""
        task = batch["task"]
        names = list(batch["name"])
        datasets = cast(list[str] | None, batch.get("dataset"))
        self._parts.append((list(datasets or [task] * len(names)), names, task, values))

    def clear(self) -> None:
        """Forget all rows."""
        self._parts.clear()

    def rows(self) -> list[dict[str, Any]]:
        """This process's rows: `dataset`, `name`, `task` and one float per metric."""
        rows = []
        for datasets, names, task, values in self._parts:
            keys = list(values)
            table = (
                torch.stack([values[key].detach().double() for key in keys], 1).tolist() if keys else [[]] * len(names)
            )
            for dataset, name, numbers in zip(datasets, names, table, strict=True):
                rows.append({"dataset": dataset, "name": name, "task": task} | dict(zip(keys, numbers, strict=True)))
        return rows

    def gather(self) -> list[dict[str, Any]]:
        """The rows of all processes, each image once, in one order everywhere."""
        return list(gather_images(((row["dataset"], row["name"]), row) for row in self.rows()).values())

    @staticmethod
    def means(rows: list[dict[str, Any]]) -> dict[str, float]:
        """Mean per task as `<task>/<metric>`, and over the tasks as `<metric>`."""
        means: dict[str, float] = {}
        per_metric: dict[str, list[float]] = {}
        for task in sorted({row["task"] for row in rows}):
            of_task = [row for row in rows if row["task"] == task]
            keys = dict.fromkeys(key for row in of_task for key in row)  # some sets have references, others none
            for metric in [key for key in keys if key not in ("dataset", "name", "task")]:
                means[f"{task}/{metric}"] = fmean(row[metric] for row in of_task if metric in row)
                per_metric.setdefault(metric, []).append(means[f"{task}/{metric}"])
        return means | {metric: fmean(values) for metric, values in per_metric.items()}
