"""One line of progress with pairs per second and time left: rewritten in place on a terminal, now and then elsewhere."""

import sys
import time
from typing import TextIO


class Meter:
    """Counts what is done and says so.

    Args:
        total: how much there is; None where it is not known.
        what: what is being done, for the line: "fused", "scored".
        interval: seconds between two lines in a log; a terminal is rewritten twice a second.
        live: rewrite one line; None: where the stream is a terminal.
        stream: where to; None is the standard output.
        unit: what is counted.
    """

    def __init__(
        self,
        total: int | None,
        what: str,
        interval: float = 10.0,
        live: bool | None = None,
        stream: TextIO | None = None,
        unit: str = "pairs",
    ) -> None:
        self.total, self.what, self.interval, self.unit = total, what, interval, unit
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty() if live is None else live
        self.done = 0
        self._start = self._last = time.monotonic()
        self._width = 0

    def step(self, count: int = 1, note: str = "") -> None:
        """So many more are done; the line comes when it is time."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= (min(self.interval, 0.5) if self.live else self.interval):
            self._last = now
            self.write(self.line(note))

    def line(self, note: str = "") -> str:
        """The line as it stands."""
        of = f"/{self.total}" if self.total is not None else ""
        return f"{self.what} {self.done}{of} {self.unit}  {self.pace()}" + (f"  {note}" if note else "")

    def pace(self) -> str:
        """Speed, and the time that is left where the total is known."""
        speed = self.done / max(time.monotonic() - self._start, 1e-9)
        left = f"  {clock((self.total - self.done) / speed)} left" if self.total is not None and self.done else ""
        return f"{rate(speed, self.unit)}{left}"

    def write(self, text: str) -> None:
        """Show a line."""
        if self.live:
            self.stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def close(self, note: str = "") -> None:
        """The last line, with the whole time in place of what is left."""
        seconds = time.monotonic() - self._start
        text = f"{self.what} {self.done} {self.unit} in {clock(seconds)}  {rate(self.done / max(seconds, 1e-9), self.unit)}"
        self.write(text + (f"  {note}" if note else ""))
        self.end_line()

    def end_line(self) -> None:
        """Go on below the rewritten line."""
        if self.live and self._width:
            self.stream.write("\n")
            self.stream.flush()
            self._width = 0


def rate(speed: float, unit: str = "pairs") -> str:
    """Pairs, or what is counted, per second, with as many digits as tell something."""
    return f"{speed:.0f} {unit}/s" if speed >= 100 else f"{speed:.3g} {unit}/s"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
