"""Which images to score: the files of the sources and of every method, paired."""

from dataclasses import dataclass
from pathlib import Path

from fusion.data.files.image import IMAGE_SUFFIXES
from fusion.data.files.pairs import natural_key
from fusion.errors import DataError
from fusion.scoring.naming import match_fused, pair_sources


@dataclass(frozen=True)
class Job:
    """One fused image to score."""

    method: str
    image: str
    files: tuple[Path, Path, Path]  # a, b, fused


def images_of(folder: Path, doubles: list[str] | None = None) -> dict[str, Path]:
    """Images of a folder and of the folders in it, by stem, in natural order.

    Args:
        folder: the folder.
        doubles: gets a line for every stem that two images have, which is then left out; None refuses them.

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
    twice: set[str] = set()
    for path in sorted(files, key=lambda p: natural_key(p.stem)):
        if path.stem in found:
            line = f"{folder}: {found[path.stem].name} and {path.name} have the same name; keep one of them"
            if doubles is None:
                raise DataError(line)
            doubles.append(line)
            twice.add(path.stem)
        found[path.stem] = path
    return {stem: path for stem, path in found.items() if stem not in twice}


def find_jobs(a: Path, b: Path, fused: dict[str, Path]) -> tuple[list[Job], list[str]]:
    """Pairs the files of every method with the sources.

    Returns:
        The jobs, and one line for everything that was left out.

    Raises:
        DataError: if a folder is missing or empty, or the sources share no name.
    """
    one_folder = a.resolve() == b.resolve()
    problems: list[str] = []
    pairs, alone = pair_sources(images_of(a, problems), images_of(b, problems), one_folder)
    if not pairs:
        hint = "no SCENE_A with SCENE_B" if one_folder else "no name in common, and no SCENE_A with SCENE_B"
        raise DataError(f"{a} and {b}: {hint}; sources pair by file name")
    problems += [f"{stem}: source without a partner" for stem in alone]
    jobs = []
    for method, folder in fused.items():
        found, missing = match_fused(list(pairs), images_of(folder, problems), method)
        jobs += [Job(method, name, (*pairs[name], path)) for name, path in found.items()]
        problems += [f"{method}, {name}: {reason}" for name, reason in missing.items()]
    return jobs, problems
