"""Calls in worker processes that may die: their death costs one call, not the run."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any

NOTICE = 1.0
"""Seconds between two looks at whether the workers are alive."""


class Died(Exception):
    """The process of a call ended without an answer: a crash in native code, or killed for its memory."""


def in_processes(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    workers: int,
    context: BaseContext,
    initializer: Callable[[], None],
    depth: int,
) -> Iterator[Any]:
    """Results of `function(*call)` in the order of the calls; `Died` in place of those whose process ended.

    When a process dies, the calls under way are repeated one at a time, so that the guilty one is known.

    Args:
        function: importable, with picklable results.
        calls: arguments.
        workers: number of processes.
        context: how processes are started.
        initializer: run once in every process.
        depth: calls under way at most.
    """
    index = 0
    while index < len(calls):
        pool = ProcessPoolExecutor(workers, context, initializer)
        waiting: deque[Future[Any]] = deque()
        try:
            while index < len(calls):
                while index + len(waiting) < len(calls) and len(waiting) < depth:
                    waiting.append(pool.submit(function, *calls[index + len(waiting)]))
                result = _result(waiting[0], pool)
                waiting.popleft()
                index += 1
                yield result
        except BrokenProcessPool:
            _end(pool)
            suspects = calls[index : index + max(1, len(waiting))]
            for result in _one_by_one(function, suspects, context, initializer):
                index += 1
                yield result
        finally:
            _end(pool)


def _one_by_one(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    context: BaseContext,
    initializer: Callable[[], None],
) -> Iterator[Any]:
    pool = None
    try:
        for call in calls:
            pool = pool or ProcessPoolExecutor(1, context, initializer)
            try:
                result = _result(pool.submit(function, *call), pool)
            except BrokenProcessPool:
                _end(pool)
                pool, result = None, Died()
            yield result
    finally:
        if pool is not None:
            _end(pool)


def _result(future: Future[Any], pool: ProcessPoolExecutor) -> Any:
    """The result, or `BrokenProcessPool` soon after a process died, also where the executor would wait forever."""
    dead_since: float | None = None
    while True:
        try:
            return future.result(timeout=NOTICE)
        except TimeoutError:
            if future.done():
                raise
        if all(process.is_alive() for process in list((pool._processes or {}).values())):
            dead_since = None
        else:
            dead_since = dead_since or time.monotonic()
            if time.monotonic() - dead_since > 3 * NOTICE:
                raise BrokenProcessPool("a worker process ended")


def _end(pool: ProcessPoolExecutor) -> None:
    """Without waiting for what is under way: idle workers end by themselves, others are ended."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        if process.is_alive():
            process.terminate()
