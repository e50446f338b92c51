"""Two files or two folders of pictures, fused at their own sizes and depths into a third."""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from fusion.data.files.limits import announced_pixels, set_max_pixels
from fusion.data.files.ranges import Range, check_range
from fusion.data.files.reading import read_raster
from fusion.data.files.writing import Compression, write_raster
from fusion.data.sets.folders import Folders
from fusion.data.sources import DEPTH_CHOICES, Sources, prepare
from fusion.data.transforms.grid import Geometry
from fusion.errors import ConfigError, FusionError
from fusion.inference.batches import batch_of, check_batch_size, fuse_batch, kind_of
from fusion.inference.controls import ready_model
from fusion.inference.memory import free_memory, is_out_of_memory
from fusion.inference.pipeline import Pipeline
from fusion.inference.targets import Job, deeper, plan
from fusion.job.config import first_line, plain
from fusion.job.meter import Meter
from fusion.job.notices import Notices
from fusion.models.base import FusionModel
from fusion.models.color import check_color
from fusion.models.memory import PICTURE, memory_limit, pixels_at_once
from fusion.models.output import FusionOutput

PIXEL = 100
"""Bytes that a pixel of a pair takes while it is read, waits and is written."""
ROOM = 2 << 30
"""Bytes for pairs that wait, a quarter of `max_memory` at most."""
AGAIN = 8
"""By how much the pieces of a pair for which memory did not suffice are smaller in its second attempt."""


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
    set_max_pixels(plain(cfg.get("data") or {}).get("max_pixels"))
    reading = read_options(options)
    compression = Compression(options["quality"], options["chroma"])
    check_batch_size(options["batch_size"])
    memory_limit(options["max_memory"], torch.device("cpu"))
    check_color(options["color"])
    if str(options["depth"]) not in DEPTH_CHOICES:
        raise ConfigError(f"depth={options['depth']}: expected one of {', '.join(DEPTH_CHOICES)}")
    controls = {key: value for key, value in (plain(cfg.control) or {}).items() if value is not None}
    notices = Notices()
    jobs, done = find_jobs(options, notices)
    model = ready_model(cfg, options, controls)
    if not jobs:
        print(f"nothing to do: all {done} results are in {options['out']} already (overwrite=false)")
        return
    if done:
        print(f"{done} of {done + len(jobs)} results are there already (overwrite=false)")
    failed = fuse_jobs(model, jobs, options, controls, notices, reading, compression)
    if failed:
        names = ", ".join(failed[:5])
        raise SomeFailed(f"{len(failed)} of {len(jobs)} pairs could not be fused: {names}; the reasons are above")


def fuse_jobs(
    model: FusionModel,
    jobs: Sequence[Job],
    options: dict[str, Any],
    controls: dict[str, Any] | None = None,
    notices: Notices | None = None,
    reading: dict[str, Any] | None = None,
    compression: Compression | None = None,
) -> list[str]:
    """Read, fuse and write pairs, several at a time, and print a line for each.

    Args:
        model: ready to fuse.
        jobs: see `find_jobs`.
        options: of conf/predict.yaml.
        controls: steering of the model.
        notices: what was said before.
        reading, compression: made of `options` where they are not given.

    Returns:
        Names of the pairs that failed.
    """
    how, steering = reading or read_options(options), controls or {}
    checked, batch_size = options["check_alignment"], check_batch_size(options["batch_size"])
    limit = memory_limit(options["max_memory"], model.device)

    def write(job: Job, given: Sources, output: FusionOutput) -> tuple[Path, list[str]]:
        result = given.finish(output.fused, options["depth"], options["keep_gray"])
        target, lost = write_raster(deeper(job, result), result, compression)
        said = (f"color: {line}" for line in dict.fromkeys(output.extras.get("color", ())))
        return target, [*given.notes, *said, *lost]

    pipeline: Pipeline[Job, Sources, FusionOutput, tuple[Path, list[str]]] = Pipeline(
        read=lambda job, number: read_pair_of(job, how, checked < 0 or number < checked),
        fuse=lambda group: fuse_group(model, group, options["task"], options["color"], steering, limit),
        write=write,
        kind=lambda given: kind_of(given, steering),
        together=lambda given: batch_of(given, model, limit, batch_size),
        size=memory_of,
        workers=options["num_workers"],
        room=min(ROOM, limit // 4),
    )
    return report(pipeline, jobs, notices or Notices())


def report(
    pipeline: Pipeline[Any, Any, Any, tuple[Path, list[str]]], jobs: Sequence[Any], notices: Notices
) -> list[str]:
    """Run the jobs and print a line for each: what was written, or why it was not.

    Args:
        pipeline: its `write` returns the file and what the user should know.
        jobs: each with the name of its `pair`.
        notices: what was said before.

    Returns:
        Names of the jobs that failed.

    Raises:
        RuntimeError: a defect, not a lack of memory.
    """
    failed: list[str] = []
    meter = Meter(len(jobs), "fused")
    with closing(pipeline.run(jobs)) as outcomes:
        for outcome in outcomes:
            meter.done += 1
            error, name = outcome.error, outcome.job.pair.name
            if outcome.result is not None:
                target, said = outcome.result
                notices.add(*said)
                print(f"[{meter.done}/{len(jobs)}] {target}   {meter.pace()}", flush=True)
                continue
            assert error is not None
            memory = is_out_of_memory(error)
            if not (memory or isinstance(error, FusionError | OSError)):
                raise error
            failed.append(name)
            reason = f"not enough memory ({first_line(error)})" if memory else first_line(error)
            print(f"error: {name}: {reason}", file=sys.stderr)
            if memory:
                free_memory()
    notices.close()
    return failed


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
    model: FusionModel,
    sources: Sources,
    task: str,
    color: str = "auto",
    controls: dict[str, Any] | None = None,
    max_memory: int | float | str | None = None,
) -> FusionOutput:
    """Fuse prepared sources; bands one after the other, so that many of them need no more memory than one."""
    a, b = (image.to(model.device) for image in sources.images)
    options = {"max_memory": max_memory, **(controls or {})}
    if not sources.by_band:
        return model.fuse(a, b, task, color=color, **options)
    outputs = [model.fuse(a[i : i + 1], b[i : i + 1], task, **options) for i in range(len(a))]
    made: list[Tensor] = [output.fused for output in outputs]
    return FusionOutput(torch.cat(made))


def fuse_group(
    model: FusionModel,
    group: Sequence[Sources],
    task: str,
    color: str,
    controls: dict[str, Any],
    max_memory: int | float | str | None = None,
) -> list[FusionOutput]:
    """Fuse one pair, or several of one kind together, see `kind_of`; a pair that needs too much memory once more with less."""
    if len(group) > 1:
        return fuse_batch(model, group, task, color, controls, max_memory)
    limit = memory_limit(model.max_memory if max_memory is None else max_memory, model.device)
    try:
        return [fuse_sources(model, group[0], task, color, controls, limit)]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    free_memory()
    pixels = group[0].images[0].shape[-2] * group[0].images[0].shape[-1]
    used = min(pixels, pixels_at_once(limit, model.bytes_per_pixel, pixels, model.device))
    less = int(PICTURE * pixels + model.bytes_per_pixel * used / AGAIN)
    return [fuse_sources(model, group[0], task, color, controls, max(less, 1 << 20))]


def memory_of(job: Job) -> int:
    """Bytes that a pair takes while it is read, waits and is written, by the headers of its files."""
    return PIXEL * max(announced_pixels(path) or 0 for path in (job.pair.a, job.pair.b))
