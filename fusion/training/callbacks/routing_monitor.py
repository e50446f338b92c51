"""What the routers do, watched during validation."""

import logging
import math
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fusion.models.output import FusionOutput
from fusion.ranks import of_all_ranks

log = logging.getLogger(__name__)


class RoutingMonitor(Callback):
    """Logs per task how evenly the experts are used on the validation pairs, and warns of experts that nobody uses.

    `routing/<task>/<site>/importance_cv` is the standard deviation of the experts' importance over its mean (0: even),
    `.../entropy` the entropy of the importance over that of even use (in [0, 1]), `.../dead` the number of experts that
    get less than `dead_share` of an even share of the tokens.

    Args:
        dead_share: share of an even load below which an expert counts as dead.
        per_site: log every site; else only means over the sites, and the sum of dead experts.

    Attributes:
        latest: share of the gates that each expert got in the last validation, by task and site.
    """

    def __init__(self, dead_share: float = 0.01, per_site: bool = True) -> None:
        self.dead_share = dead_share
        self.per_site = per_site
        self.latest: dict[tuple[str, str], list[float]] = {}
        self._use: dict[tuple[str, str], Tensor] = {}
        self._warned: dict[str, int] = {}

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if not isinstance(outputs, FusionOutput):
            return
        for index, routing in enumerate(outputs.routings):
            if routing is None:  # an adapter without experts
                continue
            site = outputs.sites[index] if index < len(outputs.sites) else str(index)
            weights = routing.weights.detach().double()
            use = torch.stack([routing.importance.detach().double(), (weights > 0).sum(0).double()])
            key = (batch["task"], site)
            self._use[key] = self._use[key] + use if key in self._use else use

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parts = of_all_ranks({key: value.cpu() for key, value in self._use.items()})
        self._use = {}
        use: dict[tuple[str, str], Tensor] = {}
        for part in parts:
            for key, value in part.items():
                use[key] = use[key] + value if key in use else value
        if not use or trainer.sanity_checking:
            return
        self.latest = {}
        values: dict[str, float] = {}
        sites: dict[str, list[dict[str, float]]] = {}
        for (task, site), (importance, load) in sorted(use.items()):
            numbers = self._numbers(importance, load)
            sites.setdefault(task, []).append(numbers)
            if self.per_site:
                values |= {f"routing/{task}/{site}/{name}": number for name, number in numbers.items()}
            self.latest[task, site] = (importance / importance.sum().clamp_min(1e-12)).tolist()
        for task, rows in sites.items():
            for name in ("importance_cv", "entropy"):
                values[f"routing/{task}/{name}"] = sum(row[name] for row in rows) / len(rows)
            values[f"routing/{task}/dead"] = sum(row["dead"] for row in rows)
        pl_module.log_dict(values, batch_size=1)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._warn(sites)

    def _warn(self, sites: dict[str, list[dict[str, float]]]) -> None:
        """One line for all tasks, and only when something has changed."""
        dead = {task: int(sum(row["dead"] for row in rows)) for task, rows in sites.items()}
        dead = {task: count for task, count in dead.items() if count}
        if dead and dead != self._warned:
            listed = ", ".join(f"{task} {count}" for task, count in dead.items())
            log.warning("experts that get almost no tokens, over all sites: %s", listed)
        self._warned = dead

    def _numbers(self, importance: Tensor, load: Tensor) -> dict[str, float]:
        count = importance.numel()
        share = importance / importance.sum().clamp_min(1e-12)
        entropy = -(share * share.clamp_min(1e-12).log()).sum() / math.log(count) if count > 1 else torch.tensor(1.0)
        even = load.sum() / count
        return {
            "importance_cv": float(share.std(correction=0) * count),
            "entropy": float(entropy),
            "dead": float((load < self.dead_share * even).sum()),
        }
