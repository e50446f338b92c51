"""Which two files belong together: pairing by name, never by position in a sorted listing."""

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fusion.data.files.image import IMAGE_SUFFIXES
from fusion.errors import DataError
from fusion.names import first_five, fold


@dataclass(frozen=True)
class Pair:
    """The files of one scene: source `a`, source `b` and, where the data set has them, ground-truth fusion and labels.

    `boxes` is for data sets that have a second label file with boxes beside that of `label`.
    """

    name: str
    a: Path
    b: Path
    reference: Path | None = None
    label: Path | None = None
    boxes: Path | None = None


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts "2" before "10": runs of digits count as numbers, case does not matter."""
    parts = re.split(r"(\d+)", fold(name))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def by_stem(stem: str) -> str:
    """Pairs equal file names, endings aside: `010001.jpg` with `010001.png`."""
    return stem


def by_prefix(stem: str) -> str:
    """Pairs equal text before the first underscore: `7_A.png` with `7_B.png`."""
    return stem.split("_", 1)[0]


def by_number(stem: str) -> str:
    """Pairs the last number in the names, leading zeros aside: `vis_007.png` with `ir-7.png`.

    Raises:
        DataError: there is no number in a name.
    """
    numbers = re.findall(r"\d+", stem)
    if not numbers:
        raise DataError(f"{stem}: no number in this file name to pair it by; pair by stem or prefix instead.")
    return str(int(numbers[-1]))


def find_folder(root: Path, *names: str) -> Path:
    """The first of `names` that is a folder in `root`, case aside; the first one in `root` if none is.

    Archives of one data set differ in the case of their folders.
    """
    folders = {path.name.casefold(): path for path in root.iterdir() if path.is_dir()} if root.is_dir() else {}
    return next((folders[name.casefold()] for name in names if name.casefold() in folders), root / names[0])


def list_images(folder: Path, layout: str = "") -> list[Path]:
    """Images of a folder in natural order; hidden files and other kinds of file are passed over.

    Raises:
        DataError: the folder is missing or has no image in it; the message shows `layout`.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}.{expected(layout)}")
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not images:
        raise DataError(f"{folder}: no images in this folder.{expected(layout)}")
    return sorted(images, key=lambda path: natural_key(path.name))


def pair_folders(
    a: Path,
    b: Path,
    reference: Path | None = None,
    *,
    key: Callable[[str], str] = by_stem,
    allow_unpaired: bool = False,
    layout: str = "",
) -> list[Pair]:
    """Pair the images of two folders by name, ignoring case and ending.

    Args:
        a: folder of the sources `a`.
        b: folder of the sources `b`.
        reference: folder of ground truth; used where it exists and has the name, never required.
        key: what of a file's stem has to agree, `by_stem` or `by_prefix`.
        allow_unpaired: keep the matches and warn instead of refusing when images are left over.
        layout: expected tree, shown when a folder is missing or empty.

    Raises:
        DataError: a folder is missing or empty, names are left over, or one name stands for two files.
    """
    files_a, files_b = _index(list_images(a, layout), key), _index(list_images(b, layout), key)
    references = _index(list_images(reference), key) if reference is not None and reference.is_dir() else {}
    names = [name for name in files_a if name in files_b]
    lone_a, lone_b = (
        [files_a[n] for n in files_a if n not in files_b],
        [files_b[n] for n in files_b if n not in files_a],
    )
    if lone_a or lone_b:
        report_unpaired([(a, lone_a), (b, lone_b)], bool(names), allow_unpaired)
    return [
        Pair(unicodedata.normalize("NFC", key(files_a[n].stem)), files_a[n], files_b[n], references.get(n))
        for n in names
    ]


def pair_endings(folder: Path, a: str, b: str, *, allow_unpaired: bool = False, layout: str = "") -> list[Pair]:
    """Pair the images `NAME + a` and `NAME + b` of one folder, `0001_rgb.tiff` with `0001_nir.tiff`.

    Args:
        folder: where the images are.
        a: end of the stem of sources `a`, case aside; images with neither end are passed over.
        b: end of the stem of sources `b`.
        allow_unpaired: keep the matches and warn instead of refusing when images are left over.
        layout: expected tree, shown when the folder is missing or empty.

    Raises:
        DataError: the folder is missing or empty, names are left over, or one name stands for two files.
    """
    files = list_images(folder, layout)
    sides = []
    for ending in (a, b):
        chosen = [path for path in files if fold(path.stem).endswith(fold(ending))]
        sides.append(_index(chosen, lambda stem, ending=ending: stem[: len(stem) - len(ending)]))  # type: ignore[misc]
    names = [name for name in sides[0] if name in sides[1]]
    lone = [[path for name, path in side.items() if name not in names] for side in sides]
    if not names and not any(lone):
        raise DataError(f"{folder}: no images whose names end in {a} or {b}.{expected(layout)}")
    if any(lone):
        report_unpaired([(folder, lone[0]), (folder, lone[1])], bool(names), allow_unpaired)
    return [
        Pair(
            unicodedata.normalize("NFC", sides[0][n].stem[: -len(a)] if a else sides[0][n].stem),
            sides[0][n],
            sides[1][n],
        )
        for n in names
    ]


def pair_scenes(
    root: Path, a: str = "B", b: str = "A", *, allow_unpaired: bool = False, layout: str = ""
) -> list[Pair]:
    """Pair `SCENE/SCENE_A.ext` with `SCENE/SCENE_B.ext` in every folder of `root`; other files are ignored.

    Args:
        root: folder of the scene folders.
        a: letter of the file that becomes source `a`.
        b: letter of the file that becomes source `b`.
        allow_unpaired: skip incomplete scenes with a warning instead of refusing.
        layout: expected tree, shown when `root` is missing or empty.

    Raises:
        DataError: `root` is missing or has no scene, a scene lacks a file, or has two for one letter.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder.{expected(layout)}")
    scenes = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if not scenes:
        raise DataError(f"{root}: no scene folders in this folder.{expected(layout)}")
    pairs, incomplete = [], []
    for scene in sorted(scenes, key=lambda path: natural_key(path.name)):
        files = [p for p in scene.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        stems = _index(
            (p for p in files if fold(p.stem) in {fold(f"{scene.name}_{a}"), fold(f"{scene.name}_{b}")}), by_stem
        )
        first, second = stems.get(fold(f"{scene.name}_{a}")), stems.get(fold(f"{scene.name}_{b}"))
        if first is None or second is None:
            incomplete.append(scene)
        else:
            pairs.append(Pair(unicodedata.normalize("NFC", scene.name), first, second))
    if incomplete:
        message = (
            f"{root}: {len(incomplete)} of {len(scenes)} scene folders lack SCENE_A.* or SCENE_B.*: "
            f"{first_five(path.name for path in incomplete)}"
        )
        _refuse_or_warn(message, bool(pairs), allow_unpaired)
    return pairs


def _index(files: Iterable[Path], key: Callable[[str], str]) -> dict[str, Path]:
    """Files by folded name; two files of one name are an error, since either could be meant."""
    index: dict[str, Path] = {}
    for path in files:
        name = fold(key(path.stem))
        if name in index:
            raise DataError(f"{path.parent}: {index[name].name} and {path.name} have the same name; keep one of them.")
        index[name] = path
    return index


def report_unpaired(sides: list[tuple[Path, list[Path]]], any_match: bool, allow: bool, hint: str = "") -> None:
    """Refuse images without a partner, or warn where they may be left out.

    Raises:
        DataError: names the first ones of every folder.
    """
    said = [
        f"{len(lone)} without a partner in {folder} ({first_five(p.name for p in lone)})"
        for folder, lone in sides
        if lone
    ]
    _refuse_or_warn("Unpaired images: " + "; ".join(said), any_match, allow, hint)


def _refuse_or_warn(message: str, any_match: bool, allow: bool, hint: str = "") -> None:
    if not any_match:
        hint = f"; {hint}" if hint else ""
        raise DataError(f"{message}; not a single pair has matching names, so the folders or names are wrong{hint}.")
    if not allow:
        raise DataError(f"{message}; add or remove those files, or set allow_unpaired=true to use only the pairs.")
    warnings.warn(f"{message}; using the pairs only (allow_unpaired=true).", stacklevel=3)


def expected(layout: str) -> str:
    """The expected layout as the end of a message."""
    return f" Expected layout:\n{layout}" if layout else ""
