"""Pair users' own folders: by equal names, or by what the names share; sub-folders, and one folder that holds both sources."""

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fusion.data.files.formats import is_readable, stem_of
from fusion.data.files.pairs import Pair, by_number, expected, fold, looks_like_a_picture, natural_key, report_unpaired
from fusion.errors import ConfigError, DataError

RULES = ("auto", "stem", "number", "prefix", "suffix", "order")
_SEPARATOR = re.compile(r"[_\-. ]+")

_ROLES_A = frozenset(
    ("a", "vis", "vi", "visible", "rgb", "color", "colour", "w", "wide", "v", "over", "oe", "far", "mri", "pan", "eo")
)
_ROLES_B = frozenset(
    ("b", "ir", "inf", "infrared", "thermal", "t", "th", "tir", "lwir", "nir", "previewdata", "under", "ue", "near")
) | frozenset(("pet", "spect", "ms"))
"""Parts of names that say which source a picture is."""

Key = Callable[[str], str | None]


def pair_files_of(
    a: Path,
    b: Path,
    reference: Path | None = None,
    *,
    rule: str = "auto",
    recursive: bool = True,
    ignore: Sequence[Path] = (),
    allow_unpaired: bool = False,
    layout: str = "",
) -> tuple[list[Pair], str | None]:
    """Pair the pictures of two folders, or of one folder given twice.

    Args:
        a: folder of the sources `a`.
        b: folder of the sources `b`; the same one if it holds `SCENE_A` and `SCENE_B`, `1_vis` and `1_ir`, ...
        reference: folder of ground truth; used where it has the name, never required.
        rule: what has to agree in the names, case and ending aside: "stem" all of it; "number" the last number, leading zeros
            aside (`001` with `1`, `vis_7` with `ir-7`); "prefix" what comes before the last or the first separator
            (`DJI_0001_W` with `DJI_0001_T`); "suffix" what comes after the first or the last one (`vis_1` with `ir_1`);
            "order" nothing, the n-th of one folder goes with the n-th of the other; "auto" the whole names where any agree,
            else the first other rule that pairs every picture.
        recursive: look into sub-folders, which have to agree.
        ignore: folders that are left out, such as that of the results.
        allow_unpaired: keep the matches and warn instead of refusing when pictures are left over.
        layout: expected tree, shown when a folder is missing or empty.

    Returns:
        The pairs in natural order, named by what their names share, and a line for the user where another rule than
        equal names was taken.

    Raises:
        ConfigError: an unknown rule.
        DataError: a folder is missing or empty, pictures are left over, or one name stands for two files.
    """
    if rule not in RULES:
        raise ConfigError(f"pairing={rule}: unknown, expected one of {', '.join(RULES)}.")
    found_a = list_pictures(a, recursive, ignore, layout)
    if a.resolve() == b.resolve():
        return _within(a, found_a, layout)
    found_b = list_pictures(b, recursive, ignore, layout)
    found_a, found_b = _without_doubles(a, found_a, b, found_b)
    if rule == "order":
        return _by_order(a, found_a, b, found_b)
    key, said = _choose(rule, a, found_a, b, found_b)
    first, second = _index(a, found_a, key), _index(b, found_b, key)
    lone_a, lone_b = (
        [x for k, x in one.items() if k not in other] for one, other in ((first, second), (second, first))
    )
    names = [name for name in first if name in second]
    if lone_a or lone_b:
        report_unpaired([(a, lone_a), (b, lone_b)], bool(names), allow_unpaired, hint=_hint(found_a, found_b))
    references = (
        {}
        if reference is None or not reference.is_dir()
        else _index(reference, list_pictures(reference, recursive), key)
    )
    return [Pair(_name(a, first[n], key), first[n], second[n], references.get(n)) for n in names], said


def list_pictures(folder: Path, recursive: bool, ignore: Sequence[Path] = (), layout: str = "") -> list[Path]:
    """Pictures of a folder that can be read, in natural order by sub-folder; what looks like one and cannot is told.

    Raises:
        DataError: no such folder, or none in it.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}.{expected(layout)}")
    left_out = {path.resolve() for path in ignore} - {folder.resolve()}
    files = [path for path in _walk(folder, recursive, left_out) if is_readable(path)]
    if not files:
        raise DataError(f"{folder}: no images in this folder{' or below it' if recursive else ''}.{expected(layout)}")
    passed = [
        path.name for path in folder.iterdir() if path.is_file() and path not in files and looks_like_a_picture(path)
    ]
    if passed:
        warnings.warn(f"{folder}: passed over, not read as pictures: {', '.join(sorted(passed)[:20])}", stacklevel=2)
    return sorted(files, key=lambda path: [natural_key(part) for part in path.relative_to(folder).parts])


def _without_doubles(a: Path, found_a: list[Path], b: Path, found_b: list[Path]) -> tuple[list[Path], list[Path]]:
    """Both sides without the names that two files of a folder have (`x.png` and `x.jpg`), which are told.

    Raises:
        DataError: nothing else is left.
    """

    def place(root: Path, path: Path) -> tuple[str, str]:
        return path.parent.relative_to(root).as_posix(), stem_of(path)

    counts = [Counter(place(root, path) for path in found) for root, found in ((a, found_a), (b, found_b))]
    twice = {key for count in counts for key, number in count.items() if number > 1}
    if not twice:
        return found_a, found_b
    names = [str(p) for root, found in ((a, found_a), (b, found_b)) for p in found if place(root, p) in twice]
    line = f"left out, names that two files have: {', '.join(names[:40])}; keep one of each"
    kept_a, kept_b = ([p for p in found if place(root, p) not in twice] for root, found in ((a, found_a), (b, found_b)))
    if not kept_a or not kept_b:
        raise DataError(f"{names[0]} and {names[1]} have the same name; keep one of them.")
    warnings.warn(line, stacklevel=3)
    return kept_a, kept_b


def _walk(folder: Path, recursive: bool, left_out: set[Path]) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith((".", "__MACOSX")):
            continue
        if path.is_dir():
            if recursive and path.resolve() not in left_out:
                yield from _walk(path, recursive, left_out)
        elif path.is_file():
            yield path


def _name(root: Path, path: Path, key: Key = lambda stem: stem) -> str:
    """Sub-folder and what is compared of the stem, with forward slashes."""
    parent = path.parent.relative_to(root).as_posix()
    stem = unicodedata.normalize("NFC", key(stem_of(path)) or stem_of(path))
    return stem if parent == "." else f"{parent}/{stem}"


# Rules ---------------------------------------------------------------------------------------------------------------


def _number(stem: str) -> str | None:
    try:
        return by_number(stem)
    except DataError:
        return None


def _cut(stem: str, last: bool, before: bool) -> str | None:
    """What comes before or after the first or the last separator."""
    found = list(_SEPARATOR.finditer(stem))
    if not found:
        return None
    match = found[-1] if last else found[0]
    part = stem[: match.start()] if before else stem[match.end() :]
    return (str(int(part)) if part.isdecimal() else part) or None


_KEYS: dict[str, list[Key]] = {
    "stem": [lambda stem: stem],
    "number": [_number],
    "prefix": [lambda stem: _cut(stem, True, True), lambda stem: _cut(stem, False, True)],
    "suffix": [lambda stem: _cut(stem, False, False), lambda stem: _cut(stem, True, False)],
}
_SAID = {
    "number": "the last number in the names",
    "prefix": "what comes before a separator",
    "suffix": "what comes after it",
}


def _choose(rule: str, a: Path, found_a: list[Path], b: Path, found_b: list[Path]) -> tuple[Key, str | None]:
    """The key by which names are compared, and how to tell the user."""
    if rule != "auto":
        keys = _KEYS[rule]
        return next((key for key in keys if _pairs_all(key, a, found_a, b, found_b)), keys[0]), None
    stems = [{fold(_name(root, path)) for path in found} for root, found in ((a, found_a), (b, found_b))]
    if stems[0] & stems[1]:
        return _KEYS["stem"][0], None
    for name in ("number", "prefix", "suffix"):
        for key in _KEYS[name]:
            if _pairs_all(key, a, found_a, b, found_b):
                return key, f"no equal names: paired by {_SAID[name]} (pairing={name})"
    for place in range(8):
        key = _token(place)
        if _pairs_all(key, a, found_a, b, found_b):
            example = key(stem_of(found_a[0]))
            return key, f"no equal names: paired by part {place + 1} of the names, such as '{example}'"
    return _KEYS["stem"][0], None


def _token(place: int) -> Key:
    def key(stem: str) -> str | None:
        parts = _SEPARATOR.split(stem)
        if place >= len(parts) or not parts[place]:
            return None
        return str(int(parts[place])) if parts[place].isdecimal() else parts[place]

    return key


def _pairs_all(key: Key, a: Path, found_a: list[Path], b: Path, found_b: list[Path]) -> bool:
    sides = []
    for root, found in ((a, found_a), (b, found_b)):
        keys = [(fold(path.parent.relative_to(root).as_posix()), fold(key(stem_of(path)) or "")) for path in found]
        if len(set(keys)) < len(keys) or any(not k for _, k in keys):
            return False
        sides.append(set(keys))
    return sides[0] == sides[1]


def _index(root: Path, found: list[Path], key: Key) -> dict[tuple[str, str], Path]:
    """Files by sub-folder and key. Names that differ in case alone stay apart where both exist.

    Raises:
        DataError: a name without what the rule compares, or two files of one name.
    """
    index: dict[tuple[str, str], Path] = {}
    exact = [(path.parent, key(stem_of(path))) for path in found]
    by_case = len(set(exact)) == len(exact) and len({(p, fold(k or "")) for p, k in exact}) < len(exact)
    for path in found:
        part = key(stem_of(path))
        if part is None:
            raise DataError(f"{path}: its name has not what the pairing rule compares; choose another pairing=.")
        place = (fold(path.parent.relative_to(root).as_posix()), part if by_case else fold(part))
        if place in index:
            raise DataError(f"{path.parent}: {index[place].name} and {path.name} have the same name; keep one of them.")
        index[place] = path
    return index


def _by_order(a: Path, found_a: list[Path], b: Path, found_b: list[Path]) -> tuple[list[Pair], str | None]:
    if len(found_a) != len(found_b):
        raise DataError(
            f"pairing=order needs as many pictures in both folders: {a} has {len(found_a)}, {b} {len(found_b)}."
        )
    pairs = [Pair(_name(a, first), first, second) for first, second in zip(found_a, found_b, strict=True)]
    return (
        pairs,
        f"paired by position: {found_a[0].name} with {found_b[0].name}, ... {found_a[-1].name} with {found_b[-1].name}",
    )


def _hint(found_a: list[Path], found_b: list[Path]) -> str:
    known = "pairing=number, prefix, suffix compare parts of the names"
    return known + (", pairing=order their positions" if len(found_a) == len(found_b) else "")


# One folder for both -------------------------------------------------------------------------------------------------


def _within(folder: Path, found: list[Path], layout: str) -> tuple[list[Pair], str | None]:
    """Pair the files of one folder by the part of their names that says which source they are."""
    scenes: dict[tuple[str, str], dict[str, Path]] = {}
    lone: list[Path] = []
    for path in found:
        role, scene = _role(stem_of(path))
        if role is None:
            lone.append(path)
            continue
        place = (path.parent.relative_to(folder).as_posix(), fold(scene))
        if role in scenes.setdefault(place, {}):
            raise DataError(
                f"{path.parent}: {scenes[place][role].name} and {path.name} stand for one source; keep one."
            )
        scenes[place][role] = path
    whole = {place: files for place, files in scenes.items() if len(files) == 2}
    lone += [path for files in scenes.values() if len(files) < 2 for path in files.values()]
    if not whole:
        raise DataError(
            f"{folder} was given for both sources, and its names do not tell a from b: name the files SCENE_A and SCENE_B "
            f"(or SCENE_vis and SCENE_ir), or give two folders.{expected(layout)}"
        )
    if lone:
        names = ", ".join(path.name for path in lone[:5]) + (", ..." if len(lone) > 5 else "")
        raise DataError(
            f"{folder} was given for both sources: {len(lone)} of its pictures have no partner in it ({names})."
        )
    pairs = []
    for (parent, _), files in whole.items():
        scene = _role(stem_of(files["a"]))[1] or stem_of(files["a"])
        pairs.append(Pair(scene if parent == "." else f"{parent}/{scene}", files["a"], files["b"]))
    example = pairs[0]
    return pairs, f"one folder for both sources: paired by name, as {example.a.name} (a) with {example.b.name} (b)"


def _role(stem: str) -> tuple[str | None, str]:
    """Which source a name says it is, by its last or its first part, and the rest of it."""
    parts = _SEPARATOR.split(stem)
    if len(parts) < 2:
        return None, stem
    for place in (-1, 0):
        word = parts[place].casefold()
        role = "a" if word in _ROLES_A else "b" if word in _ROLES_B else None
        if role:
            rest = stem[: -len(parts[-1])] if place == -1 else stem[len(parts[0]) :]
            return role, rest.strip("_-. ")
    return None, stem
