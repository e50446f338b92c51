"""Pairs to begin with, made from photographs that come with scikit-image, under names that say so."""

from pathlib import Path

from fusion.data.synthesis.photographs import SampleData
from fusion.errors import DataError

Example = tuple[str, Path, Path, str]
"""Title, a, b, task."""


def examples(folder: Path) -> list[Example]:
    """Make the pairs.

    Args:
        folder: for their files.

    Returns:
        Title, files and task of each; empty without scikit-image.
    """
    try:
        root = SampleData(folder, train_pairs=0, test_pairs=2, height=360, width=480).prepare()
    except DataError:
        return []
    found: list[Example] = []
    for index, photo in enumerate(("motorcycle", "coffee")):
        night = f"{190001 + index:06d}.jpg"
        found.append(
            (
                f"{photo}: made-up night and thermal look",
                root / "LLVIP/visible/test" / night,
                root / "LLVIP/infrared/test" / night,
                "vif",
            )
        )
        scene = f"sample_{index + 1:02d}"
        exposures = root / "MEFB/input" / scene
        found.append((f"{photo}: made-up exposures", exposures / f"{scene}_B.jpg", exposures / f"{scene}_A.jpg", "mef"))
        focus = root / "MFIF/input" / scene
        found.append((f"{photo}: made-up focus", focus / f"{scene}_B.jpg", focus / f"{scene}_A.jpg", "mff"))
    return [example for example in found if example[1].is_file() and example[2].is_file()]
