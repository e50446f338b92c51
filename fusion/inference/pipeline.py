"""Read, fuse and write side by side: threads decode ahead and encode behind, so that the device waits for neither."""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from fusion.inference.memory import free_memory, is_out_of_memory

Job = TypeVar("Job")
Read = TypeVar("Read")
Made = TypeVar("Made")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Job, Result]):
    """What became of a job: what `write` returned, or the error that ended it, wherever that was.

    Attributes:
        job: the job.
        result: None after an error.
        error: None where all went well.
    """

    job: Job
    result: Result | None = None
    error: Exception | None = None


@dataclass
class Pipeline(Generic[Job, Read, Made, Result]):
    """Jobs in three stages: `read` and `write` in threads, `fuse` in the thread of the caller, some jobs at once.

    Attributes:
        read: what a job needs; called with the job and its number, counted from 0.
        fuse: makes something of each of several inputs that go together.
        write: what is reported of a job, given the job, what was read and what was made.
        kind: inputs of one kind may be fused together, None goes alone.
        together: how many inputs like this one are fused at once.
        size: bytes that a job keeps in memory from the start of its reading to the end of its writing, known before.
        workers: threads that read, and as many that write.
        room: bytes for jobs that wait; a larger one goes alone.
    """

    read: Callable[[Job, int], Read]
    fuse: Callable[[Sequence[Read]], Sequence[Made]]
    write: Callable[[Job, Read, Made], Result]
    kind: Callable[[Read], Hashable] = lambda given: None
    together: Callable[[Read], int] = lambda given: 1
    size: Callable[[Job], int] = lambda job: 0
    workers: int = 4
    room: int = 1 << 62

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome[Job, Result], None, None]:
        """Work through jobs.

        Close the iterator (`contextlib.closing`) where the loop over it may end early: what is being written is then finished,
        so that no result is half there, and nothing else is begun.

        Yields:
            One outcome per job, in the order in which they are fused: that of `jobs`, but for those that are taken along with an
            earlier one of their kind.

        Raises:
            BaseException: what is no `Exception`, such as KeyboardInterrupt.
        """
        workers = max(1, self.workers)
        readers, writers = ThreadPoolExecutor(workers, "read"), ThreadPoolExecutor(workers, "write")
        finished = False
        try:
            yield from self._run(list(enumerate(jobs)), readers, writers, workers)
            finished = True
        finally:
            readers.shutdown(wait=True, cancel_futures=not finished)
            writers.shutdown(wait=True, cancel_futures=not finished)

    def _run(
        self, jobs: list[tuple[int, Job]], readers: ThreadPoolExecutor, writers: ThreadPoolExecutor, workers: int
    ) -> Iterator[Outcome[Job, Result]]:
        todo = deque(jobs)
        waiting: deque[tuple[Job, Future[Read]]] = deque()
        writing: deque[tuple[Job, Future[Result]]] = deque()
        sizes: dict[int, int] = {}
        group_size = 1

        def fill() -> None:
            while todo and len(waiting) < workers + group_size:
                number, job = todo[0]
                need = self.size(job)
                if sizes and sum(sizes.values()) + need > self.room:
                    return
                todo.popleft()
                sizes[id(job)] = need
                waiting.append((job, readers.submit(self.read, job, number)))

        def written(block: bool) -> Iterator[Outcome[Job, Result]]:
            while writing and (block or writing[0][1].done()):
                job, future = writing.popleft()
                sizes.pop(id(job), None)
                outcome = _outcome(job, future)
                del future  # and what it holds
                block = False
                yield outcome

        while todo or waiting:
            fill()
            if not waiting:  # no room yet
                yield from written(block=True)
                continue
            job, future = waiting.popleft()
            failure = future.exception()
            if failure is not None:
                writing.append((job, _failed(failure)))
                yield from written(block=False)
                continue
            first = future.result()
            group_size = max(1, self.together(first))
            fill()
            group = [(job, first), *self._alike(first, group_size - 1, waiting, fill)]
            del first, future
            for (job, given), made in zip(group, self._fuse([given for _, given in group]), strict=True):
                if isinstance(made, Exception):
                    writing.append((job, _failed(made)))
                else:
                    writing.append((job, writers.submit(self.write, job, given, made)))
            group.clear()
            del given, made
            yield from written(block=False)
            while len(writing) > 2 * workers + group_size:
                yield from written(block=True)
        while writing:
            yield from written(block=True)

    def _alike(
        self, first: Read, count: int, waiting: "deque[tuple[Job, Future[Read]]]", fill: Callable[[], None]
    ) -> Iterator[tuple[Job, Read]]:
        """Take up to `count` more inputs of the first one's kind out of those that are being read."""
        kind = self.kind(first)
        if kind is None:
            return
        others: list[tuple[Job, Future[Read]]] = []
        while waiting and count:
            job, future = waiting.popleft()
            if future.exception() is None and self.kind(future.result()) == kind:
                count -= 1
                yield job, future.result()
            else:
                others.append((job, future))
        waiting.extendleft(reversed(others))

    def _fuse(self, group: Sequence[Read]) -> Sequence[Made | Exception]:
        """What is made of each input; after an error of several they are tried one by one, so that it is the one's that has it."""
        try:
            return self.fuse(group)
        except Exception as error:
            # Frames hold the pictures of a failed attempt.
            failure = error.with_traceback(None) if is_out_of_memory(error) else error
        if len(group) == 1:
            return [failure]
        free_memory()
        return [made for given in group for made in self._fuse([given])]


def _outcome(job: Job, future: "Future[Result]") -> Outcome[Job, Result]:
    error = future.exception()
    if error is None:
        return Outcome(job, future.result())
    if not isinstance(error, Exception):
        raise error
    return Outcome(job, error=error)


def _failed(error: BaseException) -> "Future[Result]":
    future: Future[Result] = Future()
    future.set_exception(error)
    return future
