"""Response of each expert: mean gate against brightness and local gradient energy of the sources."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.filters import spatial_gradient
from torch import Tensor

from fusion.analysis.figures import expert_colors, file_stem, grid, legend, save
from fusion.analysis.scenes import Scene, Study, no_such_thing
from fusion.errors import ConfigError
from fusion.files import write_csv
from fusion.models.output import FusionOutput

ENERGY = (-6.0, 0.0)
"""Range of log10 of the gradient energy: from rounding noise of 8-bit images to an edge from black to white."""
RANGES = {"brightness_a": (0.0, 1.0), "brightness_b": (0.0, 1.0), "energy_a": ENERGY, "energy_b": ENERGY}
LABELS = {
    "brightness_a": "brightness of a",
    "brightness_b": "brightness of b",
    "energy_a": "log10 gradient energy of a",
    "energy_b": "log10 gradient energy of b",
}
MIN_SHARE = 0.001
"""Bins with fewer of the tokens are not drawn: their means are noise."""


@dataclass
class Binned:
    """Tokens and gates by bin of a feature: `tokens` `(bins,)`, `gates` `(bins, N)` summed; float64, on the CPU."""

    tokens: Tensor
    gates: Tensor

    @classmethod
    def of(cls, feature: Tensor, gates: Tensor, low: float, high: float, bins: int) -> "Binned":
        """Sort `(T,)` feature values with `(T, N)` gates into equal bins of [low, high], others into the outer bins."""
        feature, gates = feature.double().cpu(), gates.detach().double().cpu()
        place = ((feature - low) / (high - low) * bins).floor().clamp(0, bins - 1).long()
        summed = torch.zeros(bins, gates.shape[1], dtype=torch.float64).index_add(0, place, gates)
        return cls(torch.bincount(place, minlength=bins).double(), summed)

    def __add__(self, other: "Binned") -> "Binned":
        return Binned(self.tokens + other.tokens, self.gates + other.gates)


def experts(study: Study) -> list[Path]:
    """Curves `experts_<task>.png` and their table `experts.csv`.

    Options: `bins` per curve.

    Raises:
        ConfigError: nothing is routed token by token.
    """
    bins = study.options.get("bins", 12)
    if bins < 2:
        raise ConfigError(f"experts.bins={bins}: expected at least 2")
    found: dict[tuple[str, str, str], Binned] = {}
    for scene, output in study.observe():
        for site, feature, binned in _bin(scene, output, bins):
            key = (scene.task, site, feature)
            found[key] = found[key] + binned if key in found else binned
    if not found:
        raise no_such_thing("experts", "routers that decide token by token", study.model)
    paths = [write_csv(study.folder / "experts.csv", rows(found))]
    for task in dict.fromkeys(task for task, _, _ in found):
        of_task = {(site, feature): binned for (t, site, feature), binned in found.items() if t == task}
        paths.append(_figure(task, of_task, study.folder / f"{file_stem('experts', task)}.png"))
    return paths


def features(scene: Scene, grid_size: tuple[int, int]) -> dict[str, Tensor]:
    """What a token sees of the sources, by the names of `RANGES`.

    Args:
        scene: with images `(1, 3, H, W)`.
        grid_size: tokens `(h, w)`; each stands for its share of the image.

    Returns:
        `(h * w,)` each: mean luma, and log10 of the mean squared gradient (Sobel, in luma per pixel).
    """
    found = {}
    for source, image in (("a", scene.a), ("b", scene.b)):
        luma = rgb_to_grayscale(image)
        found[f"brightness_{source}"] = F.adaptive_avg_pool2d(luma, grid_size).flatten()
        energy = F.adaptive_avg_pool2d(spatial_gradient(luma).square().sum(2), grid_size).flatten()
        found[f"energy_{source}"] = energy.clamp_min(10 ** ENERGY[0]).log10()
    return found


def rows(found: dict[tuple[str, str, str], Binned]) -> list[dict[str, Any]]:
    """A row per task, site, feature, bin and expert."""
    table = []
    for (task, site, feature), binned in found.items():
        low, high = RANGES[feature]
        step = (high - low) / len(binned.tokens)
        share = binned.tokens / binned.tokens.sum()
        gates = binned.gates / binned.tokens[:, None]
        for index, means in enumerate(gates.tolist()):
            row: dict[str, Any] = {"task": task, "site": site, "feature": feature}
            row |= {"low": low + index * step, "high": low + (index + 1) * step, "share": float(share[index])}
            filled = bool(binned.tokens[index])  # nothing to average in an empty bin
            table += [
                row | {"expert": expert, "mean_gate": mean if filled else None} for expert, mean in enumerate(means)
            ]
    return table


def _bin(scene: Scene, output: FusionOutput, bins: int) -> list[tuple[str, str, Binned]]:
    parts = []
    seen: dict[tuple[int, int], dict[str, Tensor]] = {}
    for site, decision in zip(output.sites, output.routings, strict=True):
        if len(decision.shape) != 3:
            continue
        size = (decision.shape[1], decision.shape[2])
        if size not in seen:
            seen[size] = features(scene, size)
        for name, values in seen[size].items():
            parts.append((site, name, Binned.of(values, decision.weights, *RANGES[name], bins)))
    return parts


def _figure(task: str, found: dict[tuple[str, str], Binned], path: Path) -> Path:
    sites = list(dict.fromkeys(site for site, _ in found))
    count = max(binned.gates.shape[1] for binned in found.values())
    figure, axes = grid(len(RANGES), len(sites), (2.1, 1.7), sharey=True)
    colors = expert_colors(count)
    for r, (name, (low, high)) in enumerate(RANGES.items()):
        for c, site in enumerate(sites):
            ax, binned = axes[r, c], found[site, name]
            bins = len(binned.tokens)
            centres = torch.linspace(low, high, 2 * bins + 1)[1::2].numpy()
            share = (binned.tokens / binned.tokens.sum()).numpy()
            ax.bar(centres, share, (high - low) / bins, color="0.88", label="share of tokens")
            shown = share >= MIN_SHARE
            for expert in range(binned.gates.shape[1]):
                means = binned.gates[shown, expert].numpy() / binned.tokens[shown].numpy()
                ax.plot(centres[shown], means, ".-", color=colors[expert], linewidth=1.2, label=f"expert {expert}")
            ax.set_ylim(0, 1)
            ax.tick_params(labelsize=6)
            ax.set_xlabel(LABELS[name], fontsize=7)
            if r == 0:
                ax.set_title(f"{task}: {site}", fontsize=8)
            if c == 0:
                ax.set_ylabel("mean gate", fontsize=7)
    legend(figure, *axes[0, 0].get_legend_handles_labels())
    return save(figure, path)
