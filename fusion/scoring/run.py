"""Read and score one image after the other, on every core or on a GPU."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from multiprocessing import get_all_start_methods, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.data.files.ranges import Range, scale_of
from fusion.data.files.reading import read_raster
from fusion.data.loading.loader import processors
from fusion.data.sources import choose_bands
from fusion.errors import DataError, FusionError
from fusion.job.notices import Notices
from fusion.metrics import MetricKey, compute
from fusion.scoring.jobs import Job

# a fork server imports torch once for all workers, spawned ones would each on their own
START = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"

Loaded = tuple[Tensor, Tensor, Tensor] | str
SIDES = ("a", "b", "fused")
_notices = Notices()


def _load(job: Job, reading: dict[str, Any]) -> Loaded:
    """The three images `(1, 1|3, H, W)`, or what is wrong with them."""
    try:
        a, b, fused = (load_image(path, side, **reading) for path, side in zip(job.files, SIDES, strict=True))
    except FusionError as error:
        return f"{job.method}, {job.image}: {error}"
    images = (a, b, fused)
    if len({tuple(image.shape[-2:]) for image in images}) > 1:
        listed = ", ".join(f"{p.name} {x.shape[-1]}x{x.shape[-2]}" for p, x in zip(job.files, images, strict=True))
        return f"{job.method}, {job.image}: sizes differ ({listed}); metrics never resize"
    return images


def load_image(path: Path, side: str, range: dict[str, Range] | None = None, bands: Any = "auto") -> Tensor:
    """A picture as metrics take it: `(1, 1|3, H, W)` uint8 or uint16 where the file is and fills its type, else float32 in [0, 1].

    Args:
        path: the file.
        side: "a", "b" or "fused", for its range and for messages.
        range: black and white by side, see `fusion.data.files.ranges`.
        bands: which bands of a multispectral file, see `fusion.data.sources.prepare`.

    Raises:
        DataError: it cannot be read, has more than three bands, or values whose black and white nobody says.
    """
    raster = choose_bands(read_raster(path), bands, side)
    if len(raster.planes) not in (1, 3):
        raise DataError(
            f"{path}: has {len(raster.planes)} bands; choose three or one of them: bands=[3,2,1] or bands=[4]"
        )
    choice = (range or {}).get(side, "auto")
    if raster.limits is None and choice == "auto":
        low, high = np.nanmin(raster.planes), np.nanmax(raster.planes)
        raise DataError(
            f"{path}: floating-point values from {low:g} to {high:g}; give all three images one range=[low,high] to score them"
        )
    scale, said = scale_of(raster, choice, f"range.{side}")
    _notices.add(*said)
    plain = raster.planes.dtype in (np.uint8, np.uint16) and scale == (0, np.iinfo(raster.planes.dtype).max)
    return torch.from_numpy(raster.planes if plain else scale.to_unit(raster.planes))[None]


def _measure(
    job: Job, images: Loaded, keys: list[str], dtype: torch.dtype, device: torch.device
) -> dict[str, float] | str:
    if isinstance(images, str):
        return images
    try:
        with torch.inference_mode():
            a, b, fused = (x.to(device) for x in images)
            values = compute(a, b, fused, keys, dtype=dtype)
    except FusionError as error:
        return f"{job.method}, {job.image}: {error}"
    numbers = torch.stack(list(values.values())).flatten().tolist()  # one transfer from a GPU
    return dict(zip(values, numbers, strict=True))


def _score_file(job: Job, keys: list[str], dtype: torch.dtype, reading: dict[str, Any]) -> dict[str, float] | str:
    return _measure(job, _load(job, reading), keys, dtype, torch.device("cpu"))


def run_jobs(
    jobs: list[Job],
    keys: list[str],
    dtype: torch.dtype,
    device: torch.device,
    workers: int,
    reading: dict[str, Any] | None = None,
) -> Iterator[tuple[Job, dict[str, float] | str]]:
    """Scores jobs: on a CPU in processes of one thread each, on a GPU here, with threads that read ahead.

    Args:
        jobs: what to score.
        keys: columns, as `fusion.metrics.compute` takes them.
        dtype: of the computation.
        device: where it runs.
        workers: processes on a CPU, 0 for one per core.
        reading: how files are read, see `load_image`.

    Yields:
        Each job in the order given, with its values or one line on what is wrong with its files.
    """
    workers, reading = min(workers or processors(), len(jobs)), reading or {}
    with ExitStack() as stack:
        if device.type == "cpu" and workers > 1:
            start = ProcessPoolExecutor(workers, get_context(START), _start_worker, (_homes(keys),))
            pool: Executor = stack.enter_context(start)
            for job, result in _ahead(pool, _score_file, [(job, keys, dtype, reading) for job in jobs], 4 * workers):
                yield job, result
            return
        pool = stack.enter_context(ThreadPoolExecutor(4))
        for job, images in _ahead(pool, _load, [(job, reading) for job in jobs], 8):
            yield job, _measure(job, images, keys, dtype, device)


def _homes(keys: list[str]) -> list[str]:
    """Modules outside this package that define the metrics: a new process does not have them."""
    homes = {MetricKey.parse(key).variant.function.__module__ for key in keys}
    return sorted(name for name in homes if name.split(".", 1)[0] != "fusion")


def _start_worker(modules: list[str]) -> None:
    for name in modules:
        import_module(name)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the one that started it is killed; waiting for work, it would never learn of it."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _ahead(pool: Executor, function: Any, calls: list[tuple[Any, ...]], depth: int) -> Iterator[tuple[Job, Any]]:
    """Results in order, with at most `depth` calls under way."""
    waiting: deque[tuple[Job, Future[Any]]] = deque()
    try:
        for call in calls:
            waiting.append((call[0], pool.submit(function, *call)))
            if len(waiting) >= depth:
                job, future = waiting.popleft()
                yield job, future.result()
        while waiting:
            job, future = waiting.popleft()
            yield job, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
