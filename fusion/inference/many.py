"""More than two sources: a stack, a bracket or a tree of scenes, each fused into one picture."""

import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from fusion.data.files.limits import set_max_pixels
from fusion.data.files.pairs import Pair
from fusion.data.files.raster import Raster
from fusion.data.files.reading import read_raster
from fusion.data.files.scenes import Scene, find_scenes
from fusion.data.files.writing import Compression, write_raster
from fusion.data.sources import DEPTH_CHOICES, Sources, prepare
from fusion.errors import ConfigError, DataError, FusionError
from fusion.inference.controls import ready_model
from fusion.inference.folders import SomeFailed, fuse_sources, read_options
from fusion.inference.memory import free_memory, is_out_of_memory
from fusion.inference.targets import Job, deeper, place_results
from fusion.job.config import first_line, plain
from fusion.job.meter import Meter
from fusion.job.notices import Notices
from fusion.models.base import FusionModel
from fusion.models.color import check_color
from fusion.models.many import check_scheme, fuse_many
from fusion.models.memory import memory_limit
from fusion.models.output import FusionOutput


@dataclass(frozen=True)
class SceneJob(Job):
    """A scene and where its fusion goes; `pair` has its name."""

    scene: Scene = field(default_factory=lambda: Scene("", ()))


def predict(cfg: DictConfig) -> None:
    """Fuse the scenes of `sources` into `out`.

    Scenes are read, fused and written as pairs are: own size and depth; one that cannot be fused is reported and left out.

    Raises:
        SomeFailed: some scenes were left out.
        FusionError: nothing could be started.
    """
    for key in ("a", "b"):
        if not OmegaConf.is_missing(cfg, key):
            raise ConfigError(f"sources and {key} are both given: sources=... takes all sources, a= and b= two")
    options: dict[str, Any] = {
        str(key): plain(cfg[key]) for key in cfg if key not in ("a", "b", "model", "control", "paths", "hydra")
    }
    set_max_pixels(plain(cfg.get("data") or {}).get("max_pixels"))
    reading = read_options(options)
    reading["ranges"] = one_range(options["range"])
    compression = Compression(options["quality"], options["chroma"])
    check_color(options["color"])
    check_scheme(options["many"])
    if str(options["depth"]) not in DEPTH_CHOICES:
        raise ConfigError(f"depth={options['depth']}: expected one of {', '.join(DEPTH_CHOICES)}")
    controls = {key: value for key, value in (plain(cfg.control) or {}).items() if value is not None}
    memory_limit(options["max_memory"], torch.device("cpu"))  # refused early
    steering = controls | {"max_memory": options["max_memory"]}
    notices = Notices()
    jobs, done = find_jobs(options, notices)
    model = ready_model(cfg, options, controls)
    scheme = check_scheme(options["many"], model, options["task"])
    if not jobs:
        print(f"nothing to do: all {done} results are in {options['out']} already (overwrite=false)")
        return
    if done:
        print(f"{done} of {done + len(jobs)} results are there already (overwrite=false)")
    failed: list[str] = []
    meter = Meter(len(jobs), "fused", unit="scenes")
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(max(1, options["num_workers"])) as readers:

        def read(index: int) -> "Future[Sources] | None":
            if index >= len(jobs):
                return None
            check = options["check_alignment"] < 0 or index < options["check_alignment"]
            return ahead.submit(read_scene, jobs[index].scene, reading, check, readers)

        waiting = read(0)
        for index, job in enumerate(jobs):
            assert waiting is not None
            current, waiting = waiting, None
            try:
                given = current.result()
                waiting = read(index + 1)
                notices.add(*given.notes)
                output = fuse_scene(model, given, options["task"], options["color"], options["many"], steering)
                notices.add(*(f"color: {line}" for line in dict.fromkeys(output.extras.get("color", ()))))
                result = given.finish(output.fused, options["depth"], options["keep_gray"])
                target, lost = write_raster(deeper(job, result), result, compression)
                notices.add(*lost)
                meter.done = index + 1
                count = len(given.images)
                how = scheme if count > 2 else "as a pair"
                print(f"[{index + 1}/{len(jobs)}] {target}   {count} sources ({how})   {meter.pace()}", flush=True)
            except (FusionError, OSError, MemoryError, RuntimeError) as error:
                memory = is_out_of_memory(error)
                if isinstance(error, RuntimeError) and not memory:
                    raise
                failed.append(job.scene.name)
                reason = f"not enough memory ({first_line(error)})" if memory else first_line(error)
                print(f"error: {job.scene.name}: {reason}", file=sys.stderr)
                if memory:
                    free_memory()
            waiting = waiting or read(index + 1)
    notices.close()
    if failed:
        names = ", ".join(failed[:5])
        raise SomeFailed(f"{len(failed)} of {len(jobs)} scenes could not be fused: {names}; the reasons are above")


def find_jobs(options: dict[str, Any], notices: Notices) -> tuple[list[SceneJob], int]:
    """Find the scenes and decide where results go.

    Raises:
        ConfigError: results that would lie among the sources, or cannot be written.
        DataError: see `find_scenes`.
    """
    out = Path(str(options["out"])).expanduser()
    sources = options["sources"]
    if isinstance(sources, str) and out.is_dir() and out.resolve() == Path(sources).expanduser().resolve():
        raise ConfigError(f"out={out}: is the folder of the sources; choose another one")
    scenes, lines = find_scenes(
        sources,
        grouping=options["grouping"],
        pairing=options["pairing"],
        recursive=options["recursive"],
        ignore=[out],
        allow_single=options["allow_unpaired"],
    )
    notices.add(*lines)
    if len(scenes) == 1 and scenes[0].pages and options["page"] is not None:
        raise ConfigError(
            f"page={options['page']}: the pages of {scenes[0].files[0]} are the sources; leave page out, or give it as a or b"
        )
    single = len(scenes) == 1
    places = place_results(
        [scene.name for scene in scenes],
        [scene.files for scene in scenes],
        options,
        single,
        f"sources has {len(scenes)} scenes",
    )
    jobs = [
        SceneJob(Pair(scene.name, scene.files[0], scene.files[-1]), target, fixed, scene)
        for scene, (target, fixed) in zip(scenes, places, strict=True)
    ]
    kept = jobs if options["overwrite"] else [job for job in jobs if not job.exists()]
    return kept, len(jobs) - len(kept)


def one_range(chosen: Any) -> Any:
    """The range of all sources.

    Raises:
        ConfigError: `range.a` and `range.b` are for pairs.
    """
    if not isinstance(chosen, dict):
        return chosen
    values = list(chosen.values())
    if any(value != values[0] for value in values):
        raise ConfigError("range.a and range.b: with sources= one range holds for all sources; set range=VALUE")
    return values[0]


def read_scene(scene: Scene, reading: dict[str, Any], check: bool, readers: ThreadPoolExecutor) -> Sources:
    """The sources of a scene, ready to be fused.

    Raises:
        DataError: a file that cannot be read or does not fit, which is named; or a file with one page.
    """
    inks = reading["inks_as_bands"]
    rest = {key: value for key, value in reading.items() if key not in ("page", "inks_as_bands")}
    notes: list[str] = []
    if scene.pages:
        rasters = _read_pages(scene.files[0], inks, readers)
        notes.append(f"{scene.files[0]}: its {len(rasters)} pages are the sources")
    else:
        rasters = list(readers.map(lambda path: read_raster(path, reading["page"], inks), scene.files))
    depths = {raster.depth: raster.path for raster in rasters}
    if len(depths) > 1:
        found = ", ".join(f"{depth} ({path})" for depth, path in depths.items())
        notes.append(f"sources of different depth, {found}: each has its own white, the deepest is kept (depth=keep)")
    sources = prepare(rasters, check_alignment=check, **rest)
    sources.notes[:0] = notes
    return sources


def _read_pages(path: Path, inks: bool, readers: ThreadPoolExecutor) -> list[Raster]:
    """All pages, frames or slices of a file; each named by its number."""
    first = read_raster(path, 0, inks)
    if first.pages < 2:
        raise DataError(
            f"{path}: one picture; a scene has two or more sources: give a folder, a list or a file of pages"
        )
    rasters = [first, *readers.map(lambda number: read_raster(path, number, inks), range(1, first.pages))]
    named = [replace(raster, path=Path(f"{path} page {number}")) for number, raster in enumerate(rasters)]
    return [replace(raster, notes=tuple(n for n in raster.notes if "page=N" not in n)) for raster in named]


def fuse_scene(
    model: FusionModel,
    sources: Sources,
    task: str,
    color: str = "auto",
    many: str = "auto",
    controls: dict[str, Any] | None = None,
) -> FusionOutput:
    """Fuse prepared sources of any number; bands one after the other, as `fuse_sources` does with two."""
    if len(sources.images) == 2:
        return fuse_sources(model, sources, task, color, controls)
    images: Sequence[torch.Tensor] = [image.to(model.device) for image in sources.images]
    if not sources.by_band:
        return fuse_many(model, images, task, many, color, **(controls or {}))
    made = [
        fuse_many(model, [image[i : i + 1] for image in images], task, many, **(controls or {})).fused
        for i in range(len(images[0]))
    ]
    return FusionOutput(torch.cat(made))
