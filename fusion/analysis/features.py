"""Feature maps of a network beside its input images (GIFNet supplement, Fig. 5)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion.analysis.figures import file_stem, grid, save, show_image, show_map
from fusion.analysis.scenes import Scene, Study, no_such_thing
from fusion.files import write_csv


def features(study: Study) -> list[Path]:
    """Figures `features_<task>_<name>.png` and the table `features.csv`.

    The model gives the maps: `feature_maps(a, b, task) -> {part: (B, C, H, W)}`. Options: `pairs` per task are drawn,
    the table has all; `channels` maps of each part are drawn, those that vary most.

    Raises:
        ConfigError: the model has no such maps.
    """
    feature_maps: Any = getattr(study.model, "feature_maps", None)
    if feature_maps is None:
        raise no_such_thing("features", "feature maps to show", study.model)
    rows: list[dict[str, Any]] = []
    drawn: dict[str, int] = {}
    paths: list[Path] = []
    for scene, output in study.observe():
        maps = {name: part[0].float() for name, part in feature_maps(scene.a, scene.b, scene.task).items()}
        rows += [_row(scene, name, part) for name, part in maps.items()]
        drawn[scene.task] = drawn.get(scene.task, 0) + 1
        if drawn[scene.task] <= study.options.get("pairs", 2):
            stem = file_stem(scene.task, scene.dataset, scene.name)
            paths.append(
                _draw(
                    scene,
                    output.fused[0],
                    maps,
                    study.options.get("channels", 3),
                    study.folder / f"features_{stem}.png",
                )
            )
    return [*paths, write_csv(study.folder / "features.csv", rows)]


def stretched(channel: Tensor) -> Tensor:
    """A `(H, W)` map over its own range, in [0, 1]; a constant one becomes 0."""
    low, high = channel.aminmax()
    return (channel - low) / (high - low).clamp_min(1e-12)


def _row(scene: Scene, part: str, maps: Tensor) -> dict[str, Any]:
    """How much of a part's variation lies between neighbouring pixels: fine detail against broad contrast."""
    spread = maps.flatten(1).std(1, correction=0).mean()
    steps = (maps[:, 1:, 1:] - maps[:, 1:, :-1]).abs().mean() + (maps[:, 1:, 1:] - maps[:, :-1, 1:]).abs().mean()
    row: dict[str, Any] = {"task": scene.task, "dataset": scene.dataset, "name": scene.name, "part": part}
    return row | {"channels": len(maps), "std": float(spread), "detail": float(steps / spread.clamp_min(1e-12))}


def _draw(scene: Scene, fused: Tensor, maps: dict[str, Tensor], channels: int, path: Path) -> Path:
    height, width = scene.a.shape[-2:]
    columns = max(3, max(min(channels, len(part)) for part in maps.values()))
    figure, axes = grid(len(maps) + 1, columns, (2.6, 2.6 * height / width + 0.3))
    for ax in axes.flat:
        ax.set_axis_off()
    pictures = ((f"{scene.task}: {scene.name}\na", scene.a[0]), ("b", scene.b[0]), ("fused", fused))
    for ax, (title, image) in zip(axes[0], pictures, strict=False):
        show_image(ax, image, title)
    for row, (name, part) in zip(axes[1:], maps.items(), strict=True):
        for ax, index in zip(
            row, torch.topk(part.flatten(1).var(1), min(channels, len(part))).indices.tolist(), strict=False
        ):
            show_map(ax, stretched(part[index]), f"{name}, channel {index}", vmin=0, vmax=1, cmap="viridis")
    return save(figure, path)
