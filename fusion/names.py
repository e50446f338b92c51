"""Names of files: the form in which they are compared, and how messages list them."""

import unicodedata
from collections.abc import Iterable


def fold(name: str) -> str:
    """A name as it is compared: case aside, and accents in one form whatever the file system made of them."""
    return unicodedata.normalize("NFC", name).casefold()


def first_five(names: Iterable[str]) -> str:
    """The first five names, and dots if there are more."""
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
