"""Signals that ask a training to stop, noted when they come and heeded at the end of a step."""

import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """Notes SIGINT, SIGTERM and SIGUSR1 while it listens; a second Ctrl-C stops at once.

    Attributes:
        told: the signal that came, or None.
    """

    INTERRUPT = int(signal.SIGINT)

    def __init__(self) -> None:
        self.told: int | None = None
        self._forced = True
        self._before: dict[int, Any] = {}

    def listen(self, forced: bool) -> None:
        """Start to listen; only the main thread can.

        Args:
            forced: a second SIGINT raises at once. With several processes their launcher decides.
        """
        self._forced = forced
        if threading.current_thread() is not threading.main_thread() or self._before:
            return
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            number = getattr(signal, name, None)
            if number is not None:
                self._before[number] = signal.signal(number, self._note)

    def ignore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.told == signal.SIGINT and self._forced:
            raise KeyboardInterrupt
        if self.told is not None:
            return
        self.told = number
        if os.environ.get("RANK", "0") == "0":
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT and self._forced else ""
            text = f"{signal.Signals(number).name}: stopping at the end of this step or validation{again}\n"
            os.write(2, text.encode())  # print may be at work while the signal comes
        if number == getattr(signal, "SIGUSR1", None):
            _requeue()


def _requeue() -> None:
    """Ask SLURM to start the job again, as its warning of a pre-emption or of the time limit wants it."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if job.isdecimal() and os.environ.get("SLURM_PROCID", "0") == "0":
        try:
            subprocess.Popen(["scontrol", "requeue", job], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            os.write(2, b"scontrol is missing: queue the job again yourself\n")
