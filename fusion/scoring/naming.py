"""Matching of source and fused files by the names that benchmarks give them."""

import re
from collections.abc import Mapping
from typing import TypeVar

from fusion.names import fold

T = TypeVar("T")
_LETTER = re.compile(r"(.+)[_-]([AaBb])")


def pair_sources(a: Mapping[str, T], b: Mapping[str, T], one_folder: bool) -> tuple[dict[str, tuple[T, T]], list[str]]:
    """Pairs two sources by stem: equal names, or `SCENE_A` with `SCENE_B`.

    Args:
        a: files by stem.
        b: files by stem.
        one_folder: whether `a` and `b` list the same folder, where only `_A` and `_B` tell the sources apart.

    Returns:
        Pairs by scene name, in the order of `a`, and the stems that found no partner.
    """
    stems: dict[str, tuple[str, str]] = {}
    if not one_folder:
        partners = {fold(stem): stem for stem in b}
        stems = {stem: (stem, partners[fold(stem)]) for stem in a if fold(stem) in partners}
    scenes = {fold(m[1]): stem for stem in b if (m := _LETTER.fullmatch(stem)) and fold(m[2]) == "b"}
    equal = set(stems)
    for stem in a:
        match = _LETTER.fullmatch(stem)
        if match and fold(match[2]) == "a" and stem not in equal and fold(match[1]) in scenes:
            stems[match[1]] = (stem, scenes[fold(match[1])])
    used_a, used_b = (set(side) for side in zip(*stems.values(), strict=True)) if stems else (set(), set())
    if one_folder:
        alone = [stem for stem in a if stem not in used_a | used_b]
    else:
        alone = [stem for stem in a if stem not in used_a] + [stem for stem in b if stem not in used_b]
    pairs = {name: (a[first], b[second]) for name, (first, second) in stems.items()}
    return pairs, alone


def match_fused(names: list[str], files: Mapping[str, T], method: str) -> tuple[dict[str, T], dict[str, str]]:
    """Finds the fused image of each scene: `NAME`, `NAME_METHOD`, or the only file that begins with `NAME_`.

    Args:
        names: scene names.
        files: fused files by stem.
        method: label of the method.

    Returns:
        Files by scene, and for each scene without one the reason.
    """
    stems = {fold(stem): stem for stem in files}
    folded = [fold(name) for name in names]
    found: dict[str, T] = {}
    missing: dict[str, str] = {}
    for name, key in zip(names, folded, strict=True):
        exact = [
            s for s in (key, f"{key}_{fold(method)}", f"{key}-{fold(method)}", f"{fold(method)}_{key}") if s in stems
        ]
        longer = [n for n in folded if n != key and n.startswith(key)]
        begins = [s for s in stems if s.startswith((f"{key}_", f"{key}-")) and not any(s.startswith(n) for n in longer)]
        candidates = exact[:1] or begins
        if len(candidates) == 1:
            found[name] = files[stems[candidates[0]]]
        elif candidates:
            missing[name] = f"several files could be its fused image: {', '.join(stems[s] for s in candidates[:5])}"
        else:
            missing[name] = f"no fused image named {name} or {name}_{method}"
    return found, missing
