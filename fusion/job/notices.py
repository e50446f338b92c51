"""What the user is told while a folder is fused: everything once, the same kind of line a few times only."""

import re
import sys
from collections import Counter

SHOWN = 3
"""How often a kind of line is printed."""


class Notices:
    """Prints every line once, and counts those of a kind that were seen often enough."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._lines: set[str] = set()

    def add(self, *lines: str) -> None:
        """Print what is new."""
        for line in lines:
            if line in self._lines:
                continue
            self._lines.add(line)
            kind = _kind(line)
            self._seen[kind] += 1
            if self._seen[kind] <= SHOWN:
                print(line if line.startswith(("warning:", "error:")) else f"note: {line}", file=sys.stderr)

    def close(self) -> None:
        """Say how many lines of each kind were not printed."""
        for kind, count in self._seen.items():
            if count > SHOWN:
                print(f"... and {count - SHOWN} more like it: {kind[:120]}", file=sys.stderr)


def _kind(line: str) -> str:
    """A line without file names and numbers."""
    words = [word for word in line.split() if "/" not in word and "\\" not in word]
    return re.sub(r"[-\d.]*\d", "#", " ".join(words))
