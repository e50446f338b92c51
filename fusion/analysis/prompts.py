"""Prompt maps per pair and site, and the control grid of TC-MoA's Fig. 6."""

import inspect
from pathlib import Path
from typing import Any

from torch import Tensor

from fusion.analysis.figures import file_stem, grid, save, show_image, show_map
from fusion.analysis.scenes import Scene, Study, no_such_thing, run
from fusion.errors import ConfigError
from fusion.files import write_csv
from fusion.models.output import FusionOutput


def prompts(study: Study) -> list[Path]:
    """Figures `prompts_<task>_<name>.png` and `control_<task>_<name>.png`, tables `prompts.csv` and `control.csv`.

    Options: `pairs` per task are drawn, the table has all; `sites` sites at most are drawn, evenly spread; `alphas` and
    `betas` are the columns and rows of the grid, an empty list leaves it out.

    Raises:
        ConfigError: the model makes no prompts, or cannot steer them.
    """
    options = study.options
    alphas, betas = ([float(value) for value in options.get(key, ())] for key in ("alphas", "betas"))
    steered = bool(alphas and betas)
    if steered and not {"alpha", "beta"} <= inspect.signature(study.model.forward).parameters.keys():
        raise ConfigError(
            f"kind=prompts: {type(study.model).__name__} has no controls alpha and beta; set prompts.alphas=[]"
        )
    rows: list[dict[str, Any]] = []
    grid_rows: list[dict[str, Any]] = []
    drawn: dict[str, int] = {}
    paths: list[Path] = []
    for scene, output in study.observe():
        if not output.prompts:
            raise no_such_thing("prompts", "prompts", study.model)
        rows += statistics(scene, output)
        drawn[scene.task] = drawn.get(scene.task, 0) + 1
        if drawn[scene.task] > options.get("pairs", 2):
            continue
        stem = file_stem(scene.task, scene.dataset, scene.name)
        paths.append(_maps(scene, output, options.get("sites", 4), study.folder / f"prompts_{stem}.png"))
        if steered:
            images = control_grid(study, scene, alphas, betas)
            paths.append(_control(scene, images, alphas, betas, study.folder / f"control_{stem}.png"))
            grid_rows += _control_rows(scene, images)
    paths.append(write_csv(study.folder / "prompts.csv", rows))
    if grid_rows:
        paths.append(write_csv(study.folder / "control.csv", grid_rows))
    return paths


def statistics(scene: Scene, output: FusionOutput) -> list[dict[str, Any]]:
    """A row per site of one pair: means and spread of both prompts, how far they are from adding up to one."""
    rows = []
    for site, prompt in zip(output.sites, output.prompts, strict=True):
        a, b = prompt[0].double()
        row: dict[str, Any] = {"task": scene.task, "dataset": scene.dataset, "name": scene.name, "site": site}
        row |= {"mean_a": float(a.mean()), "mean_b": float(b.mean())}
        row |= {"std_a": float(a.std(correction=0)), "std_b": float(b.std(correction=0))}
        row |= {"off_one": float((a + b - 1).abs().mean()), "a_dominant": float((a > b).double().mean())}
        rows.append(row)
    return rows


def control_grid(
    study: Study, scene: Scene, alphas: list[float], betas: list[float]
) -> dict[tuple[float, float], Tensor]:
    """Fused images `(3, H, W)` by (alpha, beta), on the CPU."""
    return {
        (alpha, beta): run(study.model, scene, alpha=alpha, beta=beta).fused[0].float().clamp(0, 1).cpu()
        for beta in betas
        for alpha in alphas
    }


def _control_rows(scene: Scene, images: dict[tuple[float, float], Tensor]) -> list[dict[str, Any]]:
    a, b = scene.a[0].cpu(), scene.b[0].cpu()
    rows = []
    for (alpha, beta), fused in images.items():
        row: dict[str, Any] = {
            "task": scene.task,
            "dataset": scene.dataset,
            "name": scene.name,
            "alpha": alpha,
            "beta": beta,
        }
        row |= {"mean": float(fused.mean())}
        row |= {"distance_to_a": float((fused - a).abs().mean()), "distance_to_b": float((fused - b).abs().mean())}
        rows.append(row)
    return rows


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` indices, evenly spread, first and last included."""
    if wanted >= count or wanted < 2:
        return list(range(count))[: max(wanted, 0)]
    return [round(index * (count - 1) / (wanted - 1)) for index in range(wanted)]


def _maps(scene: Scene, output: FusionOutput, sites: int, path: Path) -> Path:
    chosen = spread(len(output.prompts), sites)
    height, width = scene.a.shape[-2:]
    figure, axes = grid(2, len(chosen) + 2, (2.2, 2.2 * height / width + 0.3))
    show_image(axes[0, 0], scene.a[0], f"{scene.task}: {scene.name}\na")
    show_image(axes[1, 0], scene.b[0], "b")
    show_image(axes[0, -1], output.fused[0], "fused")
    axes[1, -1].set_axis_off()
    scale = None
    for column, index in enumerate(chosen, 1):
        for row, source in enumerate("ab"):
            title = f"{output.sites[index]}\nprompt of a" if row == 0 else f"prompt of {source}"
            scale = show_map(axes[row, column], output.prompts[index][0, row], title, vmin=0, vmax=1, cmap="viridis")
    if scale is not None:
        figure.colorbar(scale, ax=axes[1, -1], location="left", shrink=0.9)
    return save(figure, path)


def _control(
    scene: Scene, images: dict[tuple[float, float], Tensor], alphas: list[float], betas: list[float], path: Path
) -> Path:
    height, width = scene.a.shape[-2:]
    figure, axes = grid(len(betas), len(alphas) + 1, (2.2, 2.2 * height / width + 0.3))
    for ax in axes[:, 0]:
        ax.set_axis_off()
    for ax, image, title in zip(axes[:, 0], (scene.a[0], scene.b[0]), ("a", "b"), strict=False):
        ax.set_axis_on()
        show_image(ax, image, f"{scene.task}: {scene.name}: {title}")
    for r, beta in enumerate(betas):
        for c, alpha in enumerate(alphas, 1):
            show_image(axes[r, c], images[alpha, beta], f"alpha {alpha:g}, beta {beta:g}")
    return save(figure, path)
