"""Expert choices of the routers: histograms per task and site (TC-MoA Fig. 2b) and adapter maps (Fig. 14)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion.analysis.figures import expert_colors, file_stem, grid, legend, save, show_image
from fusion.analysis.scenes import Scene, Study, no_such_thing
from fusion.errors import ConfigError
from fusion.files import write_csv
from fusion.models.output import FusionOutput
from fusion.moe.routing import Routing

SERIES = {"topk_share": "used (gate > 0)", "top1_share": "largest gate", "mean_gate": "mean gate"}


def routing(study: Study) -> list[Path]:
    """Tables and figures of routing: `routing.csv`, `routing.png` and `adapter_map_<task>.png`.

    Options: `maps` pairs per task get an adapter map; `map_site` is its site (null: the last one of the encoder).

    Raises:
        ConfigError: nothing is routed, or there is no such site.
    """
    counts: dict[tuple[str, str], Tensor] = {}
    maps: dict[str, list[tuple[Scene, Tensor, Tensor]]] = {}
    for scene, output in study.observe():
        if not output.routings:
            raise no_such_thing("routing", "routers", study.model)
        for site, decision in zip(output.sites, output.routings, strict=True):
            key = (scene.task, site)
            use = usage(decision)
            counts[key] = counts[key] + use if key in counts else use
        drawn = maps.setdefault(scene.task, [])
        place = map_site(output, study.options.get("map_site"))
        if len(drawn) < study.options.get("maps", 3) and len(output.routings[place].shape) == 3:
            drawn.append((scene, output.fused[0].cpu(), adapter_map(output.routings[place])[0].cpu()))
    rows = shares(counts)
    paths = [write_csv(study.folder / "routing.csv", rows), _histograms(rows, study.folder / "routing.png")]
    experts = max(len(use[0]) for use in counts.values())
    for task, drawn in maps.items():
        if drawn:
            paths.append(_maps(drawn, experts, study.folder / f"{file_stem('adapter_map', task)}.png"))
    return paths


def usage(decision: Routing) -> Tensor:
    """How often each expert is used.

    Args:
        decision: routing of T tokens over N experts.

    Returns:
        `(3, N)` float64 sums over the tokens: uses (gate above 0), first places (largest gate), gates.
    """
    weights = decision.weights.detach().double().cpu()
    first = torch.bincount(weights.argmax(1), minlength=weights.shape[1])
    return torch.stack([(weights > 0).sum(0).double(), first.double(), weights.sum(0)])


def adapter_map(decision: Routing) -> Tensor:
    """Index of the expert with the largest gate, `(B, h, w)`."""
    return decision.weights.argmax(1).view(decision.shape)


def map_site(output: FusionOutput, wanted: str | None) -> int:
    """Index of the site to map: the wanted one, else the last one of the encoder, else the last one.

    Raises:
        ConfigError: no site of that name.
    """
    if wanted is not None:
        if wanted not in output.sites:
            raise ConfigError(f"routing.map_site={wanted}: no such site; known: {', '.join(output.sites)}")
        return output.sites.index(wanted)
    encoder = [index for index, site in enumerate(output.sites) if site.startswith("encoder")]
    return encoder[-1] if encoder else len(output.sites) - 1


def shares(counts: dict[tuple[str, str], Tensor]) -> list[dict[str, Any]]:
    """A row per task, site and expert: shares of the tokens and the mean gate."""
    rows = []
    for (task, site), use in counts.items():
        tokens = use[1].sum()
        for expert, (used, first, gate) in enumerate((use / tokens).t().tolist()):
            row = {"task": task, "site": site, "expert": expert, "tokens": int(tokens)}
            rows.append(row | {"topk_share": used, "top1_share": first, "mean_gate": gate})
    return rows


def _histograms(rows: list[dict[str, Any]], path: Path) -> Path:
    tasks, sites = (list(dict.fromkeys(row[key] for row in rows)) for key in ("task", "site"))
    experts = 1 + max(row["expert"] for row in rows)
    cell = (max(1.8, 0.35 * experts), 1.7)
    figure, axes = grid(len(tasks), len(sites), cell, sharex=True, sharey=True)
    colors = expert_colors(experts)
    for r, task in enumerate(tasks):
        for c, site in enumerate(sites):
            ax = axes[r, c]
            of_site = [row for row in rows if (row["task"], row["site"]) == (task, site)]
            places = [row["expert"] for row in of_site]
            ax.bar(places, [row["topk_share"] for row in of_site], 0.8, color="0.85", label=SERIES["topk_share"])
            shades = [colors[place] for place in places]
            ax.bar(places, [row["top1_share"] for row in of_site], 0.5, color=shades, label=SERIES["top1_share"])
            ax.plot(places, [row["mean_gate"] for row in of_site], "k_", markersize=9, label=SERIES["mean_gate"])
            ax.set_ylim(0, 1.02)
            ax.set_xticks(places)
            ax.tick_params(labelsize=7)
            if r == 0:
                ax.set_title(site, fontsize=9)
            if c == 0:
                ax.set_ylabel(f"{task}\nshare of tokens", fontsize=8)
            if r == len(tasks) - 1:
                ax.set_xlabel("expert", fontsize=8)
    legend(figure, *axes[0, 0].get_legend_handles_labels())
    return save(figure, path)


def _maps(drawn: list[tuple[Scene, Tensor, Tensor]], experts: int, path: Path) -> Path:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    height, width = drawn[0][1].shape[-2:]
    figure, axes = grid(len(drawn), 4, (2.6, 2.6 * height / width + 0.35))
    colors = expert_colors(experts)
    for row, (scene, fused, chosen) in zip(axes, drawn, strict=True):
        for ax, image, title in zip(
            row, (scene.a[0], scene.b[0], fused), (f"{scene.name}: a", "b", "fused"), strict=False
        ):
            show_image(ax, image, title)
        frame = (-0.5, fused.shape[-1] - 0.5, fused.shape[-2] - 0.5, -0.5)  # that of the images
        row[3].imshow(chosen.numpy(), cmap=ListedColormap(colors), vmin=-0.5, vmax=experts - 0.5, extent=frame)
        row[3].set_title("expert with the largest gate", fontsize=8)
        row[3].set_axis_off()
    legend(figure, [Patch(color=color) for color in colors], [f"expert {index}" for index in range(experts)])
    return save(figure, path)
