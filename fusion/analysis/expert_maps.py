"""Outputs of every expert for an image (MoE-Fusion Fig. 6), for models that route whole images."""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion.analysis.figures import file_stem, grid, save, show_image, show_map
from fusion.analysis.scenes import Scene, Study, no_such_thing, run
from fusion.errors import ConfigError
from fusion.files import write_csv
from fusion.models.output import FusionOutput


def expert_maps(study: Study) -> list[Path]:
    """Figures `expert_maps_<task>_<name>.png` and the table `expert_maps.csv`.

    Drawn are the sources, the attention, the fused image, and of every site and expert the mean over the channels of what
    it makes, each stretched to its own range; in the title its gate. The table has, by pair, site and expert, the gate
    and the mean strength (deviation of the channel mean from its median) in the foreground and in the background, both
    weighed by the attention.

    Options: `pairs` per task are drawn, the table has all.

    Raises:
        ConfigError: the model has no experts to show.
    """
    limit = study.options.get("pairs", 4)
    if limit < 0:
        raise ConfigError(f"expert_maps.pairs={limit}: expected 0 or more")
    if "show_experts" not in inspect.signature(study.model.forward).parameters:
        raise no_such_thing("expert_maps", "experts on whole images", study.model)
    rows: list[dict[str, Any]] = []
    drawn: dict[str, int] = {}
    paths: list[Path] = []
    for scene in study.scenes():
        output = run(study.model, scene, show_experts=True)
        if not output.extras["experts"]:
            raise no_such_thing("expert_maps", "experts", study.model)
        rows += statistics(scene, output)
        drawn[scene.task] = drawn.get(scene.task, 0) + 1
        if drawn[scene.task] <= limit:
            stem = file_stem("expert_maps", scene.task, scene.dataset, scene.name)
            paths.append(_figure(scene, output, study.folder / f"{stem}.png"))
    return [*paths, write_csv(study.folder / "expert_maps.csv", rows)]


def channel_mean(features: Tensor) -> Tensor:
    """`(N, 1, C, H, W)` experts' features of one pair to `(N, H, W)`."""
    return features[:, 0].float().mean(1)


def statistics(scene: Scene, output: FusionOutput) -> list[dict[str, Any]]:
    """A row per site and expert of one pair."""
    attention = output.extras["attention"][0, 0]
    gates = {site: routing.weights[0] for site, routing in zip(output.sites, output.routings, strict=True)}
    rows = []
    for site, features in output.extras["experts"].items():
        for expert, values in enumerate(channel_mean(features)):
            strength = (values - values.median()).abs()
            row: dict[str, Any] = {"task": scene.task, "dataset": scene.dataset, "name": scene.name, "site": site}
            row |= {"expert": expert, "gate": float(gates[site][expert])}
            for region, weight in (("foreground", attention), ("background", 1 - attention)):
                total = weight.sum()
                row[region] = float((strength * weight).sum() / total) if total > 0 else None
            rows.append(row)
    return rows


def _figure(scene: Scene, output: FusionOutput, path: Path) -> Path:
    experts = output.extras["experts"]
    gates = {site: routing.weights[0].tolist() for site, routing in zip(output.sites, output.routings, strict=True)}
    columns = max(4, *(len(features) for features in experts.values()))
    height, width = scene.a.shape[-2:]
    figure, axes = grid(1 + len(experts), columns, (2.4, 2.4 * height / width + 0.3))
    for ax in axes.flat:
        ax.axis("off")
    show_image(axes[0, 0], scene.a[0], "a")
    show_image(axes[0, 1], scene.b[0], "b")
    show_map(axes[0, 2], output.extras["attention"][0, 0], "attention", vmin=0, vmax=1, cmap="gray")
    show_image(axes[0, 3], output.fused[0], "fused")
    for row, (site, features) in enumerate(experts.items(), 1):
        for expert, values in enumerate(channel_mean(features)):
            low, high = torch.aminmax(values)
            title = f"{site} {expert}, gate {gates[site][expert]:.2f}"
            show_map(axes[row, expert], (values - low) / (high - low).clamp_min(1e-12), title, cmap="gray")
    return save(figure, path)
