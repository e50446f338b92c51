"""Two files or two folders of images, fused at their own sizes into a third."""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from fusion.api import build_model, check_controls, model_of_job, pick_device
from fusion.data.files.image import WRITE_FORMATS, Picture, read_pair, write_image
from fusion.data.files.limits import set_max_pixels
from fusion.data.files.pairs import Pair
from fusion.data.sets.folders import Folders
from fusion.errors import ConfigError, DataError, FusionError
from fusion.job.config import first_line, plain

FORMATS = ("keep", *(suffix.lstrip(".") for suffix in WRITE_FORMATS))


class SomeFailed(FusionError):
    """Some pairs could not be fused; the others were."""

    status = 1


class Job(NamedTuple):
    """One pair and where its fusion goes."""

    pair: Pair
    target: Path


def predict(cfg: DictConfig) -> None:
    """Fuse the pairs of `a` and `b` into `out`.

    Every pair is fused at its own size. A pair that cannot be read is reported and left out.

    Raises:
        SomeFailed: some pairs were left out.
        FusionError: nothing could be started.
    """
    options = {
        key: plain(cfg[key]) for key in ("a", "b", "out", "task", "format", "keep_gray", "overwrite", "match_size")
    }
    set_max_pixels(plain(cfg.get("data") or {}).get("max_pixels"))
    controls = {key: value for key, value in (plain(cfg.control) or {}).items() if value is not None}
    pairs = Folders(options["a"], options["b"], options["task"], allow_unpaired=cfg.allow_unpaired).pairs
    jobs = plan(pairs, options)
    model = build_model(model_of_job(cfg), cfg.ckpt_path, pick_device(cfg.device))
    check_controls(model, controls)
    failed: list[str] = []
    for index, (job, picture) in enumerate(read_ahead(jobs, cfg.num_workers, options["match_size"]), 1):
        try:
            a, b = picture.result()
            fused = model.fuse(a.pixels, b.pixels, options["task"], **controls).fused[0]
            if options["keep_gray"] and a.is_gray and b.is_gray:
                fused = fused.mean(0, keepdim=True)
            write_image(job.target, fused.cpu())
        except (DataError, OSError, torch.OutOfMemoryError) as error:
            failed.append(job.pair.name)
            print(f"error: {job.pair.name}: {first_line(error)}", file=sys.stderr)
            continue
        print(f"[{index}/{len(jobs)}] {job.target}", flush=True)
    if failed:
        names = ", ".join(failed[:5])
        raise SomeFailed(f"{len(failed)} of {len(jobs)} pairs could not be fused: {names}; the reasons are above")


def plan(pairs: Sequence[Pair], options: dict[str, Any]) -> list[Job]:
    """Decide where each fused image goes: the name of source `a`, in `out`.

    Raises:
        ConfigError: a format that cannot be written, or files that would overwrite a source or one another.
    """
    if options["format"] not in FORMATS:
        raise ConfigError(f"format={options['format']}: expected one of {', '.join(FORMATS)}")
    out = Path(options["out"])
    one_file = Path(options["a"]).is_file() and out.suffix.lower() in WRITE_FORMATS
    jobs = []
    for pair in pairs:
        suffix = pair.a.suffix if options["format"] == "keep" else f".{options['format']}"
        suffix = suffix if suffix.lower() in WRITE_FORMATS else ".png"
        target = out if one_file else out / f"{pair.a.stem}{suffix}"
        if target.resolve() in (pair.a.resolve(), pair.b.resolve()):
            raise ConfigError(f"out={out}: {target} is a source; choose another folder")
        jobs.append(Job(pair, target))
    if len({job.target for job in jobs}) < len(jobs):
        raise ConfigError(f"out={out}: two pairs would be written to one file; use format=keep or rename the sources")
    return jobs if options["overwrite"] else [job for job in jobs if not job.target.exists()]


def read_ahead(
    jobs: Sequence[Job], workers: int, match_size: Any
) -> Iterator[tuple[Job, "Future[tuple[Picture, Picture]]"]]:
    """Read pairs in threads while the model works, in order and a few ahead."""
    waiting: deque[tuple[Job, Future[tuple[Picture, Picture]]]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for job in jobs:
            waiting.append((job, pool.submit(read_pair, job.pair.a, job.pair.b, match_size)))
            if len(waiting) > max(1, workers):
                yield waiting.popleft()
        yield from waiting
