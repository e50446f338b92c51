"""Read and score one image after the other, on every core or on a GPU."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from multiprocessing import get_all_start_methods, get_context, parent_process
from typing import Any

import torch
from torch import Tensor

from fusion.data.files.image import read_image
from fusion.data.loading.loader import processors
from fusion.errors import FusionError
from fusion.metrics import MetricKey, compute
from fusion.scoring.jobs import Job
from fusion.scoring.workers import Died, in_processes

# a fork server imports torch once for all workers, spawned ones would each on their own
START = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"

DIED = "the process that scored it ended without an answer (a damaged file, or too little memory: lower workers)"

Loaded = tuple[Tensor, Tensor, Tensor] | str


def _load(job: Job) -> Loaded:
    """The three images `(1, 1|3, H, W)` uint8, or what is wrong with them."""
    try:
        pictures = [read_image(path) for path in job.files]
    except FusionError as error:
        return f"{job.method}, {job.image}: {error}"
    sizes = {tuple(picture.pixels.shape[-2:]) for picture in pictures}
    if len(sizes) > 1:
        listed = ", ".join(
            f"{p.name} {x.pixels.shape[-1]}x{x.pixels.shape[-2]}" for p, x in zip(job.files, pictures, strict=True)
        )
        return f"{job.method}, {job.image}: sizes differ ({listed}); metrics never resize"
    a, b, fused = (x.pixels[:1] if x.is_gray else x.pixels for x in pictures)
    return a[None], b[None], fused[None]


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


def _score_file(job: Job, keys: list[str], dtype: torch.dtype) -> dict[str, float] | str:
    return _measure(job, _load(job), keys, dtype, torch.device("cpu"))


def run_jobs(
    jobs: list[Job], keys: list[str], dtype: torch.dtype, device: torch.device, workers: int
) -> Iterator[tuple[Job, dict[str, float] | str]]:
    """Scores jobs: on a CPU in processes of one thread each, on a GPU here, with threads that read ahead.

    Args:
        jobs: what to score.
        keys: columns, as `fusion.metrics.compute` takes them.
        dtype: of the computation.
        device: where it runs.
        workers: processes on a CPU, 0 for one per core.

    Yields:
        Each job in the order given, with its values or one line on what is wrong with its files.
    """
    workers = min(workers or processors(), len(jobs))
    with ExitStack() as stack:
        if device.type == "cpu" and workers > 1:
            calls = [(job, keys, dtype) for job in jobs]
            results = in_processes(
                _score_file, calls, workers, get_context(START), partial(_start_worker, _homes(keys)), 4 * workers
            )
            for job, result in zip(jobs, results, strict=True):
                yield job, f"{job.method}, {job.image}: {DIED}" if isinstance(result, Died) else result
            return
        pool: Executor = stack.enter_context(ThreadPoolExecutor(4))
        for job, images in _ahead(pool, _load, [(job,) for job in jobs], 8):
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
