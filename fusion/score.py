"""Score fused images: `python -m fusion.score a=DIR b=DIR fused=DIR suite=NAME out=scores.csv`."""

import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from torch import Tensor

import fusion
from fusion.cli import door
from fusion.data.image import IMAGE_SUFFIXES, read_image
from fusion.data.pairs import natural_key
from fusion.errors import ConfigError, DataError, FusionError
from fusion.metrics import Suite, compute
from fusion.metrics.journal import Journal, stamp
from fusion.metrics.leaderboard import Leaderboard, compare
from fusion.metrics.naming import match_fused, pair_sources
from fusion.metrics.plots import distributions
from fusion.metrics.tables import image_csv, latex, markdown, summary_csv, tests_csv

DTYPES = {"float64": torch.float64, "float32": torch.float32}


class PartialError(DataError):
    """Some images could not be scored; the tables hold the others."""

    status = 1


@dataclass(frozen=True)
class Job:
    """One fused image to score."""

    method: str
    image: str
    files: tuple[Path, Path, Path]  # a, b, fused


def score_folders(config: dict[str, Any]) -> Leaderboard:
    """Scores the images of one or several methods and writes the tables beside `config["out"]`.

    Args:
        config: plain form of conf/score.yaml.

    Raises:
        ConfigError: for an unknown metric, device, precision or plot format, or without any fused folder.
        DataError: for a missing folder or sources that share no name.
        PartialError: after everything else was scored and written, if some images could not be.
    """
    suite, out = Suite.from_config(config["suite"]), Path(config["out"])
    settings = _settings(suite, config)
    device = _device(config["device"])
    jobs, problems = find_jobs(Path(config["a"]), Path(config["b"]), _methods(config["fused"]))
    if not jobs:
        raise DataError(f"nothing to score: {'; '.join(problems[:5])}")
    values: dict[str, dict[str, dict[str, float]]] = {job.method: {} for job in jobs}
    journal = Journal(out.with_name(f"{out.name}.partial"), settings, config["resume"])
    try:
        marks = {job: stamp(job.files) for job in jobs}
        for job in jobs:
            if (known := journal.known(job.method, job.image, marks[job])) is not None:
                values[job.method][job.image] = known
        open_jobs = [job for job in jobs if job.image not in values[job.method]]
        if len(open_jobs) < len(jobs):
            print(f"{len(jobs) - len(open_jobs)} of {len(jobs)} images were scored before")
        results = _run(open_jobs, suite.keys, DTYPES[config["precision"]], device, config["workers"])
        for job, result in _bar(results, len(open_jobs)):
            if isinstance(result, str):
                problems.append(result)
            else:
                values[job.method][job.image] = result
                journal.add(job.method, job.image, marks[job], result)
    finally:
        journal.close(finished=False)
    values = {m: {x: rows[x] for x in sorted(rows, key=natural_key)} for m, rows in values.items() if rows}
    if not values:
        raise DataError(f"no image could be scored: {'; '.join(problems[:5])}")
    board = compare(suite, values)
    _write(board, values, settings, out, config["plot"])
    journal.close(finished=not problems)
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise PartialError(f"{len(problems)} problem(s), the rest is in {out}: {shown}")
    return board


def _methods(fused: Any) -> dict[str, Path]:
    if isinstance(fused, str):
        return {Path(fused).name or fused: Path(fused)}
    if not fused:
        raise ConfigError("fused: no folder given; add fused=DIR, or +fused.METHOD=DIR for each method")
    return {str(method): Path(folder) for method, folder in fused.items()}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: '{name}' is not known; expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: '{name}' was asked for, but torch sees no CUDA device; use device=cpu")
    return device


def _settings(suite: Suite, config: dict[str, Any]) -> dict[str, Any]:
    """How the numbers are made, for the tables and for resuming."""
    if config["precision"] not in DTYPES:
        raise ConfigError(f"precision: '{config['precision']}' is not known; expected {' or '.join(DTYPES)}")
    if config["plot"] not in (None, "png", "pdf", "svg"):
        raise ConfigError(f"plot: '{config['plot']}' is not known; expected png, pdf, svg or null")
    return {
        "suite": suite.name,
        "note": suite.note,
        "columns": [column.policy for column in suite.columns],
        "sizes": "images are never resized",
        "precision": config["precision"],
        "version": f"fusion {fusion.__version__}, torch {torch.__version__}",
    }


def images_of(folder: Path) -> dict[str, Path]:
    """Images of a folder and of the folders in it, by stem, in natural order.

    Raises:
        DataError: if the folder is missing, has no image, or two images of one stem.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}")
    files = [p for p in (*folder.glob("*"), *folder.glob("*/*")) if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    files = [p for p in files if not p.name.startswith(".")]
    if not files:
        raise DataError(f"{folder}: no images in this folder")
    found: dict[str, Path] = {}
    for path in sorted(files, key=lambda p: natural_key(p.stem)):
        if path.stem in found:
            raise DataError(f"{folder}: {found[path.stem]} and {path} have the same name; keep one of them")
        found[path.stem] = path
    return found


def find_jobs(a: Path, b: Path, fused: dict[str, Path]) -> tuple[list[Job], list[str]]:
    """Pairs the files of every method with the sources.

    Returns:
        The jobs, and one line for everything that was left out.

    Raises:
        DataError: if a folder is missing or empty, or the sources share no name.
    """
    one_folder = a.resolve() == b.resolve()
    pairs, alone = pair_sources(images_of(a), images_of(b), one_folder)
    if not pairs:
        hint = "no SCENE_A with SCENE_B" if one_folder else "no name in common, and no SCENE_A with SCENE_B"
        raise DataError(f"{a} and {b}: {hint}; sources pair by file name")
    problems = [f"{stem}: source without a partner" for stem in alone]
    jobs = []
    for method, folder in fused.items():
        found, missing = match_fused(list(pairs), images_of(folder), method)
        jobs += [Job(method, name, (*pairs[name], path)) for name, path in found.items()]
        problems += [f"{method}, {name}: {reason}" for name, reason in missing.items()]
    return jobs, problems


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
    return {key: float(value) for key, value in values.items()}


def _score_file(job: Job, keys: list[str], dtype: torch.dtype) -> dict[str, float] | str:
    return _measure(job, _load(job), keys, dtype, torch.device("cpu"))


def _run(
    jobs: list[Job], keys: list[str], dtype: torch.dtype, device: torch.device, workers: int
) -> Iterator[tuple[Job, dict[str, float] | str]]:
    """Scores jobs in order: on a CPU in processes of one thread each, on a GPU here, with threads that read ahead."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers or cores, len(jobs))
    with ExitStack() as stack:
        if device.type == "cpu" and workers > 1:
            pool: Executor = stack.enter_context(
                ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
            )
            for job, result in _ahead(pool, _score_file, [(job, keys, dtype) for job in jobs], 4 * workers):
                yield job, result
            return
        pool = stack.enter_context(ThreadPoolExecutor(4))
        for job, images in _ahead(pool, _load, [(job,) for job in jobs], 8):
            yield job, _measure(job, images, keys, dtype, device)


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


def _bar(results: Iterable[Any], total: int) -> Iterable[Any]:
    console = Console(stderr=True)
    return track(results, "scoring", total, console=console, disable=not console.is_terminal)


def _write(
    board: Leaderboard,
    values: dict[str, dict[str, dict[str, float]]],
    settings: dict[str, Any],
    out: Path,
    plot: str | None,
) -> None:
    made_by = f"{settings['version']}; {settings['precision']}; {settings['sizes']}"
    notes = [
        f"suite {settings['suite']}" + (f": {settings['note']}" if settings["note"] else ""),
        f"{len(board.images)} images; {made_by}",
        "conventions: " + "; ".join(settings["columns"]),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    _replace(out, image_csv(board.suite, values, made_by))
    _replace(out.with_suffix(".json"), json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    _replace(out.with_name(f"{out.stem}_summary.csv"), summary_csv(board, made_by))
    _replace(out.with_suffix(".md"), markdown(board, notes))
    _replace(out.with_suffix(".tex"), latex(board, notes))
    if len(board.methods) > 1:
        _replace(out.with_name(f"{out.stem}_tests.csv"), tests_csv(board))
    if plot:
        distributions(board, values, out.with_name(f"{out.stem}_plot.{plot}"))
    print(markdown(board, notes))


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def rewrite(arguments: list[str]) -> list[str]:
    """Lets `suite=NAME` choose the group `metrics@suite`, and `fused.METHOD=DIR` stand without a plus."""
    spelled = {"suite=": "metrics@suite=", "fused.": "++fused.", "+fused.": "++fused."}
    return [next((new + a[len(old) :] for old, new in spelled.items() if a.startswith(old)), a) for a in arguments]


@door("score", prepare=rewrite)
def main(cfg: DictConfig) -> float | None:
    """Door of `python -m fusion.score`; returns the first method's mean of the first metric, for sweepers."""
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(config, dict)
    board = score_folders({str(key): value for key, value in config.items()})
    return next(iter(board.means[board.methods[0]].values()))


if __name__ == "__main__":
    sys.exit(main())
