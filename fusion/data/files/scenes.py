"""Scenes of any number of pictures: a list, a folder, a tree of folders, a stack of pages; or several scenes told by name."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from fusion.data.files.formats import READABLE, is_readable, stem_of
from fusion.data.files.pairing import list_pictures, pair_files_of
from fusion.data.files.pairs import natural_key
from fusion.errors import ConfigError, DataError

GROUPINGS = ("auto", "folder", "prefix", "suffix")
_PREFIX = re.compile(r"(?P<scene>.*?[^_\-. ])(?:[_\-. ]+(?P<part>[^_\-. ]+)|(?P<digits>(?<!\d)\d+))")
_SUFFIX = re.compile(r"(?P<part>[^_\-. ]+)[_\-. ]+(?P<scene>.+)")
_PART = re.compile(
    r"[+-]?\d+(ev)?|[a-z]|under|dark|low|short|ue|mid|middle|medium|normal|over|bright|high|long|oe|near|far|front|back",
    re.IGNORECASE,
)
"""What tells the pictures of a scene from each other, where nobody says."""
Key = Callable[[str], tuple[str, str] | None]


@dataclass(frozen=True)
class Scene:
    """The files of one scene, in natural order.

    Attributes:
        name: of the result, with sub-folders.
        files: the sources; one file alone where its pages are the sources.
        pages: whether they are.
    """

    name: str
    files: tuple[Path, ...]
    pages: bool = False


def find_scenes(
    sources: str | Sequence[str],
    *,
    grouping: str = "auto",
    pairing: str = "auto",
    recursive: bool = True,
    ignore: Sequence[Path] = (),
    allow_single: bool = False,
) -> tuple[list[Scene], list[str]]:
    """Find what is to be fused together.

    Args:
        sources: a folder, whose pictures are one scene or, by `grouping`, several, or whose sub-folders are a scene each; a
            file of several pages; a pattern (`SCENE/*.jpg`); a list of files, which is one scene; or a list of folders, where
            pictures of one name are one scene.
        grouping: within a folder: "folder" one scene; "prefix" pictures that share what comes before the last part of the name
            (`arno_0`, `arno_1`), "suffix" after the first part (`0_arno`, `1_arno`); "auto" the one or the other where all
            scenes have the same parts, else "folder".
        pairing: see `fusion.data.files.pairing`, for a list of folders.
        recursive: look into sub-folders.
        ignore: files and folders that are left out, such as the results.
        allow_single: leave out scenes of one picture, with a warning, instead of refusing.

    Returns:
        The scenes in natural order, and lines for the user.

    Raises:
        ConfigError: an unknown grouping.
        DataError: something is missing, or a scene has one picture alone.
    """
    if grouping not in GROUPINGS:
        raise ConfigError(f"grouping={grouping}: expected one of {', '.join(GROUPINGS)}")
    paths = _paths(sources)
    left_out = {path.resolve() for path in ignore}
    if len(paths) > 1:
        if all(path.is_dir() for path in paths):
            return _by_name(paths, pairing, recursive, ignore, allow_single)
        if folder := next((path for path in paths if path.is_dir()), None):
            raise DataError(f"sources: {folder} is a folder among files; give files alone, or folders alone")
        twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
        if twice:
            raise DataError(f"sources: {twice[0]} is given twice")
        return [Scene(stem_of(paths[0]), tuple(paths))], []
    [path] = paths
    if not path.is_dir():
        if not isinstance(sources, str):
            raise DataError(
                f"sources=[{path}]: one source; give two or more, or sources={path} for the pages of one file"
            )
        return [Scene(stem_of(path), (path,), pages=True)], []
    return _in_folder(path, grouping, recursive, left_out, allow_single)


def _paths(sources: str | Sequence[str]) -> list[Path]:
    given = [sources] if isinstance(sources, str) else [str(source) for source in sources]
    if len(given) == 1 and "," in given[0] and not Path(given[0]).expanduser().exists():
        given = given[0].split(",")
    paths: list[Path] = []
    for text in given:
        path = Path(text).expanduser()
        if not path.exists() and has_magic(text):
            found = sorted((Path(one) for one in glob(str(path))), key=lambda one: natural_key(str(one)))
            paths += [one for one in found if one.is_dir() or is_readable(one)]
            if not found:
                raise DataError(f"sources={text}: no file or folder fits this pattern")
        elif path.exists():
            paths.append(path)
        else:
            what = "no such file" if path.suffix.lower() in READABLE else "no such folder or file"
            raise DataError(f"sources={path}: {what}")
    if not paths:
        raise DataError("sources: empty; give a folder, a file of several pages, or a list of pictures")
    return paths


def _in_folder(
    root: Path, grouping: str, recursive: bool, left_out: set[Path], allow_single: bool
) -> tuple[list[Scene], list[str]]:
    """One folder: its pictures, or its sub-folders."""
    files = [path for path in list_pictures(root, recursive, [*left_out]) if path.resolve() not in left_out]
    if not files:
        raise DataError(f"sources={root}: no pictures in it but the result")
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    if root in folders and len(folders) > 1:
        other = next(folder for folder in folders if folder != root)
        raise DataError(
            f"sources={root}: holds pictures and a folder of pictures, {other}; recursive=false takes the pictures alone"
        )
    scenes, lines = [], []
    for folder, found in folders.items():
        name = root.resolve().name if folder == root else folder.relative_to(root).as_posix()
        groups, said = _grouped(found, grouping)
        if said:
            lines.append(f"{folder}: {said}")
        if len(groups) == 1 and said is None:
            scenes.append(Scene(name, tuple(found)))
            continue
        inside = "" if folder == root else f"{name}/"
        scenes += [Scene(f"{inside}{scene}", tuple(group)) for scene, group in groups.items()]
    return _of_two(scenes, root, allow_single), lines


def _of_two(scenes: list[Scene], root: Path, allow_single: bool) -> list[Scene]:
    """Scenes of two pictures or more.

    Raises:
        DataError: others, unless they may be left out and some remain.
    """
    single = [scene for scene in scenes if len(scene.files) < 2]
    if not single:
        return scenes
    kept = [scene for scene in scenes if len(scene.files) > 1]
    file = single[0].files[0]
    if len(scenes) == 1:
        raise DataError(
            f"sources={root}: one picture, {file.name}; a scene has two or more (sources={file}: its pages)"
        )
    line = f"sources={root}: {len(single)} of {len(scenes)} scenes have one picture alone, such as {file}"
    if not kept or not allow_single:
        raise DataError(f"{line}; add what is missing, or set allow_unpaired=true to leave them out")
    warnings.warn(f"{line}; left out (allow_unpaired=true)", stacklevel=4)
    return kept


def _grouped(files: Sequence[Path], grouping: str) -> tuple[dict[str, list[Path]], str | None]:
    """Scenes within a folder, and how they were told where they were."""
    for name, key in (("prefix", _by_prefix), ("suffix", _by_suffix)):
        if grouping not in ("auto", name):
            continue
        parts = [key(stem_of(file)) for file in files]
        groups: dict[str, list[Path]] = {}
        for file, part in zip(files, parts, strict=True):
            groups.setdefault(part[0] if part else stem_of(file), []).append(file)
        said = f"{len(groups)} scenes by {name} of the names, such as {next(iter(groups))} (grouping={name})"
        if grouping == name:
            return groups, said
        if _are_scenes([part for part in parts if part], len(files), groups):
            return groups, f"{said}; grouping=folder takes all as one"
    return {"": list(files)}, None


def _are_scenes(parts: list[tuple[str, str]], count: int, groups: dict[str, list[Path]]) -> bool:
    """Whether names look like several scenes of the same makeup: two or more, each with the same parts."""
    if len(parts) < count or len(groups) < 2 or any(len(group) < 2 for group in groups.values()):
        return False
    if not all(_PART.fullmatch(part) for _, part in parts):
        return False
    made: dict[str, list[str]] = {}
    for scene, part in parts:
        made.setdefault(scene, []).append(part.casefold())
    return len({tuple(sorted(one)) for one in made.values()}) == 1


def _by_prefix(stem: str) -> tuple[str, str] | None:
    found = _PREFIX.fullmatch(stem)
    return (found["scene"], found["part"] or found["digits"]) if found else None


def _by_suffix(stem: str) -> tuple[str, str] | None:
    found = _SUFFIX.fullmatch(stem)
    return (found["scene"], found["part"]) if found else None


def _by_name(
    folders: list[Path], pairing: str, recursive: bool, ignore: Sequence[Path], allow_unpaired: bool
) -> tuple[list[Scene], list[str]]:
    """Folders side by side: one scene per name."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise DataError("sources: a folder is given twice")
    first, *others = folders
    scenes: dict[Path, tuple[str, list[Path]]] | None = None
    lines: list[str] = []
    for other in others:
        pairs, said = pair_files_of(
            first, other, rule=pairing, recursive=recursive, ignore=ignore, allow_unpaired=allow_unpaired
        )
        lines += [said] if said else []
        found = {pair.a: pair.b for pair in pairs}
        if scenes is None:
            scenes = {pair.a: (pair.name, [pair.a]) for pair in pairs}
        scenes = {a: (name, [*files, found[a]]) for a, (name, files) in scenes.items() if a in found}
    if not scenes:
        raise DataError(f"sources: no name is in all of {', '.join(str(folder) for folder in folders)}")
    return [Scene(name, tuple(files)) for name, files in scenes.values()], list(dict.fromkeys(lines))
