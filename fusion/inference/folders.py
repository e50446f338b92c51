"""Two files or two folders of pictures, fused at their own sizes and depths into a third."""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from fusion.api import build_model, check_controls, model_of_job
from fusion.data.files.ranges import Range, check_range
from fusion.data.files.reading import read_raster
from fusion.data.files.writing import Compression, write_raster
from fusion.data.sets.folders import Folders
from fusion.data.sources import DEPTH_CHOICES, Sources, prepare
from fusion.data.transforms.grid import Geometry
from fusion.device import pick_device
from fusion.errors import ConfigError, FusionError
from fusion.inference.controls import check_effect
from fusion.inference.memory import free_memory, is_out_of_memory
from fusion.inference.targets import Job, deeper, plan
from fusion.job.config import first_line, plain
from fusion.job.meter import Meter
from fusion.job.notices import Notices
from fusion.models.base import FusionModel
from fusion.models.color import check_color
from fusion.models.output import FusionOutput


class SomeFailed(FusionError):
    """Some pairs could not be fused; the others were."""

    status = 1


def predict(cfg: DictConfig) -> None:
    """Fuse the pairs of `a` and `b` into `out`.

    Every pair is fused at its own size and depth. A pair that cannot be read, or for which memory does not suffice, is
    reported and left out.

    Raises:
        SomeFailed: some pairs were left out.
        FusionError: nothing could be started.
    """
    options: dict[str, Any] = {
        str(key): plain(cfg[key]) for key in cfg if key not in ("model", "control", "paths", "hydra")
    }
    reading = read_options(options)
    compression = Compression(options["quality"], options["chroma"])
    check_color(options["color"])
    if str(options["depth"]) not in DEPTH_CHOICES:
        raise ConfigError(f"depth={options['depth']}: expected one of {', '.join(DEPTH_CHOICES)}")
    controls = {key: value for key, value in (plain(cfg.control) or {}).items() if value is not None}
    notices = Notices()
    jobs, done = find_jobs(options, notices)
    model = build_model(model_of_job(cfg), cfg.ckpt_path, pick_device(cfg.device))
    check_controls(model, controls)
    model.untrained = model.untrained and not options["allow_untrained"]
    model.refuse_untrained()
    check_effect(model, options["task"], controls)
    if not jobs:
        print(f"nothing to do: all {done} results are in {options['out']} already (overwrite=false)")
        return
    if done:
        print(f"{done} of {done + len(jobs)} results are there already (overwrite=false)")
    failed: list[str] = []
    meter = Meter(len(jobs), "fused")
    for index, (job, sources) in enumerate(
        read_ahead(jobs, options["num_workers"], reading, options["check_alignment"]), 1
    ):
        try:
            given = sources.result()
            notices.add(*given.notes)
            output = fuse_sources(model, given, options["task"], options["color"], controls)
            notices.add(*(f"color: {line}" for line in dict.fromkeys(output.extras.get("color", ()))))
            result = given.finish(output.fused, options["depth"], options["keep_gray"])
            target, lost = write_raster(deeper(job, result), result, compression)
            notices.add(*lost)
        except (FusionError, OSError, MemoryError, RuntimeError) as error:
            memory = is_out_of_memory(error)
            if isinstance(error, RuntimeError) and not memory:
                raise
            failed.append(job.pair.name)
            reason = f"not enough memory ({first_line(error)})" if memory else first_line(error)
            print(f"error: {job.pair.name}: {reason}", file=sys.stderr)
            if memory:
                free_memory()
            continue
        meter.done = index
        print(f"[{index}/{len(jobs)}] {target}   {meter.pace()}", flush=True)
    notices.close()
    if failed:
        names = ", ".join(failed[:5])
        raise SomeFailed(f"{len(failed)} of {len(jobs)} pairs could not be fused: {names}; the reasons are above")


def find_jobs(options: dict[str, Any], notices: Notices) -> tuple[list[Job], int]:
    """Pair the sources and decide where results go; see `plan`."""
    folders = Folders(
        options["a"],
        options["b"],
        options["task"],
        pairing=options["pairing"],
        recursive=options["recursive"],
        ignore=[str(options["out"])],
        allow_unpaired=options["allow_unpaired"],
    )
    jobs, done = plan(folders.pairs, options)
    if folders.paired_by:
        notices.add(folders.paired_by)
    if folders.a.resolve() == folders.b.resolve() and folders.a.is_file():
        notices.add(f"warning: a and b are the same file, {folders.a}")
    return jobs, done


def read_options(options: dict[str, Any]) -> dict[str, Any]:
    """What `prepare` takes, checked before anything is read.

    Raises:
        ConfigError: an unknown value.
    """
    chosen = options["range"]
    ranges: dict[str, Range] = dict(chosen) if isinstance(chosen, dict) else {"a": chosen, "b": chosen}
    for side, value in ranges.items():
        check_range(value, f"range.{side}")
    keys = ("match_size", "fit", "register", "motion", "overlap")
    geometry = Geometry(**{key: options[key] for key in keys})
    bands = options["bands"]
    inks = options["task"] == "pansharpening" or bands == "each" or isinstance(bands, list)
    return {"inks_as_bands": inks, "page": options["page"], "ranges": ranges, "bands": bands, "geometry": geometry}


def read_pair_of(job: Job, reading: dict[str, Any], check: bool) -> Sources:
    """The sources of one pair, ready to be fused."""
    how = ("page", "inks_as_bands")
    rest = {key: value for key, value in reading.items() if key not in how}
    rasters = [read_raster(path, *(reading[key] for key in how)) for path in (job.pair.a, job.pair.b)]
    return prepare(rasters, labels=("a", "b"), check_alignment=check, **rest)


def fuse_sources(
    model: FusionModel, sources: Sources, task: str, color: str = "auto", controls: dict[str, Any] | None = None
) -> FusionOutput:
    """Fuse prepared sources; bands one after the other, so that many of them need no more memory than one."""
    a, b = (image.to(model.device) for image in sources.images)
    if not sources.by_band:
        return model.fuse(a, b, task, color=color, **(controls or {}))
    outputs = [model.fuse(a[i : i + 1], b[i : i + 1], task, **(controls or {})) for i in range(len(a))]
    made: list[Tensor] = [output.fused for output in outputs]
    return FusionOutput(torch.cat(made))


def read_ahead(
    jobs: Sequence[Job], workers: int, reading: dict[str, Any], checked: int
) -> Iterator[tuple[Job, "Future[Sources]"]]:
    """Read pairs in threads while the model works, in order and a few ahead; the first ones are checked for alignment."""
    waiting: deque[tuple[Job, Future[Sources]]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for index, job in enumerate(jobs):
            check = checked < 0 or index < checked
            waiting.append((job, pool.submit(read_pair_of, job, reading, check)))
            if len(waiting) > max(1, workers):
                yield waiting.popleft()
        yield from waiting
