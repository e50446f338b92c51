"""Where each result goes: a file for two files, a folder for two folders, never a source and never two into one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fusion.data.files.formats import OTHER_PICTURES, READABLE, WRITABLE, format_to_write, stem_of, suffix_of
from fusion.data.files.pairs import Pair
from fusion.data.files.raster import DEPTHS, Raster
from fusion.errors import ConfigError
from fusion.job.paths import make_folder

_NOT_KEPT = (".ppm", ".pgm", ".pnm")
"""Formats without metadata or compression, whose results become PNG unless they are asked for."""
FORMATS = ("keep", *(suffix.lstrip(".") for suffix in WRITABLE))


@dataclass(frozen=True)
class Job:
    """One pair and where its fusion goes.

    Attributes:
        pair: the sources.
        target: the file; its ending may give way to a deeper format unless it was asked for.
        fixed: whether the ending was asked for.
    """

    pair: Pair
    target: Path
    fixed: bool = True

    def exists(self) -> bool:
        """Whether there is a result already, in whichever format."""
        return any(path.exists() for path in {self.target, *(self._other() if not self.fixed else ())})

    def _other(self) -> list[Path]:
        return [
            self.target.with_name(self.target.name[: -len(self.target.suffix)] + suffix) for suffix in (".png", ".tif")
        ]


def plan(pairs: Sequence[Pair], options: dict[str, Any]) -> tuple[list[Job], int]:
    """Decide where each fused image goes: the name of source `a` and its sub-folder, in `out`.

    Args:
        pairs: what is to be fused.
        options: `a`, `out`, `format`, `overwrite` of conf/predict.yaml.

    Returns:
        The jobs, and how many were left out because their result exists.

    Raises:
        ConfigError: a format that cannot be written, or files that would overwrite a source or one another.
    """
    names = [str(PurePosixPath(pair.name).parent / stem_of(pair.a)) for pair in pairs]
    single = len(pairs) == 1 and pairs[0].a == Path(str(options["a"])).expanduser()
    places = place_results(names, [(pair.a, pair.b) for pair in pairs], options, single, "a and b are folders")
    jobs = [Job(pair, target, fixed) for pair, (target, fixed) in zip(pairs, places, strict=True)]
    kept = jobs if options["overwrite"] else [job for job in jobs if not job.exists()]
    return kept, len(jobs) - len(kept)


def place_results(
    names: Sequence[str],
    sources: Sequence[Sequence[Path]],
    options: dict[str, Any],
    single: bool,
    several: str,
) -> list[tuple[Path, bool]]:
    """The file of each result, and whether its ending was asked for.

    Args:
        names: of the results in `out`, with sub-folders and without ending.
        sources: the files of each; the ending is that of the first one where none is asked for.
        options: `out`, `format` of conf/predict.yaml.
        single: `out` may be a file.
        several: why it may not, otherwise.

    Raises:
        ConfigError: a format that cannot be written, or files that would overwrite a source or one another.
    """
    if options["format"] not in FORMATS:
        raise ConfigError(f"format={options['format']}: expected one of {', '.join(FORMATS)}")
    out = Path(str(options["out"])).expanduser()
    one_file = _is_file(str(options["out"]), single, several)
    if one_file and options["format"] not in ("keep", suffix_of(out).lstrip(".")):
        raise ConfigError(f"format={options['format']} and out={out}: two different formats; leave one out")
    places = []
    for name, files in zip(names, sources, strict=True):
        own = suffix_of(files[0])
        suffix = f".{options['format']}" if options["format"] != "keep" else own
        fixed = one_file or options["format"] != "keep"
        if options["format"] == "keep" and suffix in _NOT_KEPT:
            suffix = ".png"
        if suffix == own and suffix in WRITABLE:
            suffix = files[0].suffix  # as it is spelled
        suffix = suffix if suffix.lower() in WRITABLE else ".png"
        target = out if one_file else out / f"{name}{suffix}"
        if target.resolve() in {path.resolve() for path in files}:
            raise ConfigError(f"out={out}: {target} is a source; choose another folder")
        places.append((target, fixed))
    if len({target for target, _ in places}) < len(places):
        raise ConfigError(f"out={out}: two results would be written to one file; rename the sources")
    make_folder(out.parent if one_file else out, f"out={out}", keep=False)
    return places


def deeper(job: Job, result: Raster) -> Path:
    """The target, in another format where the source's own cannot hold the result and none was asked for."""
    if job.fixed:
        return job.target
    form = format_to_write(job.target)
    too_deep = DEPTHS.index(result.depth) > max(DEPTHS.index(depth) for depth in form.depths)
    too_many = result.channels == "bands" and not form.bands
    if not (too_deep or too_many or (result.alpha is not None and not form.alpha)):
        return job.target
    simple = result.depth in ("8", "16") and not too_many
    stem = job.target.name[: -len(job.target.suffix)]
    return job.target.with_name(stem + (".png" if simple else ".tif"))


def _is_file(out: str, from_files: bool, several: str) -> bool:
    """Whether `out` names a file.

    Raises:
        ConfigError: an ending that no result can have, or a file for two folders.
    """
    path = Path(out).expanduser()
    if path.is_dir() or out.endswith(("/", os.sep)):
        return False
    suffix = suffix_of(path)
    if from_files and suffix:
        try:
            format_to_write(path)
        except ConfigError as error:
            raise ConfigError(f"out={error}; end the name of a folder in /") from None
        return True
    if not from_files and (suffix in READABLE or suffix in OTHER_PICTURES):
        raise ConfigError(
            f"out={out}: {several}, so out is a folder too, but this names a file; end it in / if you mean so"
        )
    return False
