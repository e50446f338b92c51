"""What the routers and prompts of a run's best checkpoint do, made with the analyses and shown in a report."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, seed_everything

from fusion.analysis.bias import bias
from fusion.analysis.cost import describe_device, measure, random_batch
from fusion.analysis.prompts import prompts
from fusion.analysis.routing import routing
from fusion.analysis.scenes import Study, scenes
from fusion.api import build_model
from fusion.device import pick_device
from fusion.errors import FusionError
from fusion.job.config import instantiate
from fusion.models.base import FusionModel
from fusion.pages import Section, Table, image_file
from fusion.reporting.runs import Run

KINDS: dict[str, tuple[str, Callable[[Study], list[Path]], dict[str, Any], str]] = {
    "routing": ("Routing", routing, {"maps": 2, "map_site": None}, "TC-MoA Figs. 2b and 14"),
    "prompts": ("Prompts", prompts, {"pairs": 1, "sites": 4, "alphas": [], "betas": []}, "prompt maps of both sources"),
    "bias": ("Intensity bias", bias, {}, "TC-MoA Fig. 13"),
}
"""Title, function, options and what the section shows, by name."""


def load(run: Run, device: str) -> FusionModel:
    """The model of a run, with the weights of its best checkpoint (the last one where there is no best).

    Raises:
        FusionError: there is no checkpoint, or it cannot be read.
    """
    return build_model(None, str(run.folder), pick_device(device))


def inside_sections(
    run: Run, model: FusionModel, kinds: list[str], part: str, pairs_per_task: int, max_side: int | None
) -> list[Section]:
    """A section per analysis; one that the model has nothing for, or whose data are missing, says so."""
    sections = []
    study: Study | None = None
    for kind in kinds:
        title, analyse, options, what = KINDS[kind]
        try:
            study = study or _study(run, model, part, pairs_per_task, max_side)
            with tempfile.TemporaryDirectory() as folder:
                with contextlib.redirect_stdout(io.StringIO()):  # tables for a terminal
                    paths = analyse(Study(model, study.scenes, Path(folder), options))
                pictures = [image_file(path, path.stem.replace("_", " ")) for path in paths if path.suffix == ".png"]
                note = f"{what}; {pairs_per_task} pair(s) per task, weights of the best epoch."
                sections.append(Section(title, note, pictures=pictures))
        except FusionError as error:
            sections.append(Section(title, f"Not shown: {error}"))
    return sections


def cost_section(model: FusionModel, size: tuple[int, int]) -> Section:
    """Parameters, and time and memory of fusing one pair on the machine that makes the report."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    rows: list[list[Any]] = [["parameters, trained", trained], ["parameters, all", total]]
    note = "Time and memory were measured while this report was made."
    try:
        batch = random_batch(size, 1, "vif", model.device)
        cost = measure(model, batch, "32-true", 1, 3)
        rows += [
            ["device", describe_device(model.device)],
            ["size in pixels", f"{size[0]} x {size[1]}"],
            ["seconds per pair, median of 3", cost.pair_seconds],
            ["pairs per second", cost.pairs_per_second],
            [f"peak memory of the {cost.memory_of}, GiB", cost.peak_bytes / 2**30],
        ]
    except (FusionError, RuntimeError) as error:
        note = f"Time and memory are not shown: {' '.join(str(error).split())}"
    return Section("Cost", note, tables=[Table(["", "value"], rows)])


def _study(run: Run, model: FusionModel, part: str, pairs_per_task: int, max_side: int | None) -> Study:
    seed_everything(0, workers=True, verbose=False)
    data: LightningDataModule | None = instantiate(run.config.get("data"))
    if data is None or not hasattr(data, "parts"):
        raise FusionError("the run's configuration has no data to take pairs from")
    data.prepare_data()
    datasets = list((data.parts.get(part) or data.parts["val"]).values())
    return Study(model, lambda: scenes(datasets, pairs_per_task, max_side, model), run.folder)
