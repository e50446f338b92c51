"""Which images to score: the files of the sources and of every method, paired."""

from dataclasses import dataclass
from pathlib import Path

from fusion.data.files.formats import is_readable, stem_of
from fusion.data.files.image import IMAGE_SUFFIXES
from fusion.data.files.pairing import pair_files_of
from fusion.data.files.pairs import natural_key
from fusion.errors import DataError
from fusion.scoring.naming import match_fused, pair_sources


@dataclass(frozen=True)
class Job:
    """One fused image to score."""

    method: str
    image: str
    files: tuple[Path, Path, Path]  # a, b, fused


def images_of(folder: Path) -> dict[str, Path]:
    """Images of a folder and of the folders in it, by stem, in natural order.

    Raises:
        DataError: if the folder is missing, has no image, or two images of one stem.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}")
    files = [p for p in (*folder.glob("*"), *folder.glob("*/*")) if is_readable(p) and p.is_file()]
    files = [p for p in files if not p.name.startswith(".")]
    pictures = {stem_of(p) for p in files if p.suffix.lower() in IMAGE_SUFFIXES}
    files = [
        p for p in files if p.suffix.lower() in IMAGE_SUFFIXES or stem_of(p) not in pictures
    ]  # arrays beside pictures
    if not files:
        raise DataError(f"{folder}: no images in this folder")
    found: dict[str, Path] = {}
    for path in sorted(files, key=lambda p: natural_key(stem_of(p))):
        stem = stem_of(path)
        if stem in found:
            raise DataError(f"{folder}: {found[stem]} and {path} have the same name; keep one of them")
        found[stem] = path
    return found


def find_jobs(a: Path, b: Path, fused: dict[str, Path], rule: str = "auto") -> tuple[list[Job], list[str]]:
    """Pairs the files of every method with the sources.

    Args:
        a: folder of the sources `a`.
        b: folder of the sources `b`.
        fused: folder of fused images by method.
        rule: what of two names has to agree, see `fusion.data.files.pairing`; "auto" knows benchmarks' names besides.

    Returns:
        The jobs, and one line for everything that was left out.

    Raises:
        DataError: if a folder is missing or empty, or the sources share no name.
    """
    one_folder = a.resolve() == b.resolve()
    pairs, alone = pair_sources(images_of(a), images_of(b), one_folder)
    if rule != "auto" or not (pairs or one_folder):
        found_pairs, _ = pair_files_of(a, b, rule=rule)
        pairs, alone = {Path(pair.name).name: (pair.a, pair.b) for pair in found_pairs}, []
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
