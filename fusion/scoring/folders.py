"""Score the folders of one or several methods, take up an interrupted run, and write the tables."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from fusion.data.files.limits import set_max_pixels
from fusion.data.files.pairs import natural_key
from fusion.data.files.ranges import check_range
from fusion.device import pick_device
from fusion.errors import ConfigError, DataError
from fusion.job.meter import Meter
from fusion.job.paths import make_folder
from fusion.metrics import Suite
from fusion.scoring.jobs import find_jobs
from fusion.scoring.journal import Journal, stamp
from fusion.scoring.leaderboard import Leaderboard, compare
from fusion.scoring.page import write_page
from fusion.scoring.published import read_published
from fusion.scoring.report import write_report
from fusion.scoring.run import SIDES, run_jobs
from fusion.version import __version__

DTYPES = {"float64": torch.float64, "float32": torch.float32}


class PartialError(DataError):
    """Some images could not be scored; the tables hold the others."""

    status = 1


def score_folders(config: dict[str, Any]) -> Leaderboard:
    """Scores the images of one or several methods and writes the tables beside `config["out"]`.

    Args:
        config: plain form of conf/score.yaml.

    Raises:
        ConfigError: for an unknown metric, device, precision or plot format, or without any fused folder.
        DataError: for a missing folder or sources that share no name.
        PartialError: after everything else was scored and written, if some images could not be.
    """
    set_max_pixels((config.get("data") or {}).get("max_pixels"))
    suite, out = Suite.from_config(config["suite"]), Path(config["out"])
    reading = _reading(config)
    settings = _settings(suite, config) | ({"reading": reading} if reading else {})
    device = pick_device(config["device"])
    jobs, problems = find_jobs(
        Path(str(config["a"])), Path(str(config["b"])), _methods(config["fused"]), config.get("pairing") or "auto"
    )
    if not jobs:
        raise DataError(f"nothing to score: {'; '.join(problems[:5])}")
    values: dict[str, dict[str, dict[str, float]]] = {job.method: {} for job in jobs}
    if out.exists() and not out.is_file():
        raise ConfigError(f"out={out}: is no file; give the table a name that ends in .csv")
    make_folder(out.parent, f"out={out}")
    journal = Journal(out.with_name(f"{out.name}.partial"), settings, config["resume"])
    try:
        marks = {job: stamp(job.files) for job in jobs}
        for job in jobs:
            if (known := journal.known(job.method, job.image, marks[job])) is not None:
                values[job.method][job.image] = known
        open_jobs = [job for job in jobs if job.image not in values[job.method]]
        if len(open_jobs) < len(jobs):
            print(f"{len(jobs) - len(open_jobs)} of {len(jobs)} images were scored before")
        results = run_jobs(open_jobs, suite.keys, DTYPES[config["precision"]], device, config["workers"], reading)
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
    write_report(board, values, settings, out, config["plot"])
    if config.get("report"):
        published = read_published(config.get("published"), suite, board.images)
        print(f"page: {write_page(board, values, jobs, settings, Path(config['report']), published)}")
    journal.close(finished=not problems)
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise PartialError(f"{len(problems)} problem(s), the rest is in {out}: {shown}")
    return board


def _reading(config: dict[str, Any]) -> dict[str, Any]:
    """What of `load_image`'s options is not its default, so that earlier journals stay valid."""
    chosen = config.get("range") or "auto"
    ranges = dict(chosen) if isinstance(chosen, dict) else dict.fromkeys(SIDES, chosen)
    found = {side: check_range(value, f"range.{side}") for side, value in ranges.items() if value != "auto"}
    bands = config.get("bands") or "auto"
    return ({"range": found} if found else {}) | ({"bands": bands} if bands != "auto" else {})


def _methods(fused: Any) -> dict[str, Path]:
    if isinstance(fused, int | float):  # a number is a name too
        fused = str(fused)
    if isinstance(fused, str):
        return {Path(fused).name or fused: Path(fused)}
    if not fused:
        raise ConfigError("fused: no folder given; add fused=DIR, or +fused.METHOD=DIR for each method")
    return {str(method): Path(str(folder)) for method, folder in fused.items()}


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
        "version": f"fusion {__version__}, torch {torch.__version__}",
    }


def _bar(results: Iterable[Any], total: int) -> Iterable[Any]:
    meter = Meter(total, "scored", stream=sys.stderr)
    for result in results:
        yield result
        meter.step()
    if total:
        meter.close()
