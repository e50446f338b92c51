"""Time, memory and operations of a piece of work on a device, and what the device can do at best."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

DTYPES = {"fp32": None, "tf32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Precisions of the rows; the latter two autocast, `tf32` allows TF32 in products and convolutions."""


@dataclass
class Row:
    """One line of the table; None where there is nothing to say."""

    work: str
    setting: str
    ms: float | None = None
    tflops: float | None = None
    share: float | None = None
    gib: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Clock:
    """Measures on one device; on a CPU time is that of the process, so that other jobs disturb it less.

    Args:
        device: to measure on.
        seconds: to spend on one measurement, after two runs to warm up.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.seconds = device, seconds
        self.cuda = device.type == "cuda"
        self.peaks: dict[str, float] = {}

    def ms(self, work: Callable[[], Any], warmup: int = 2, most: int = 50) -> tuple[float, float | None]:
        """Median milliseconds of `work`, and the most GiB that PyTorch held meanwhile (None on a CPU)."""
        for _ in range(warmup):
            work()
        self.synchronize()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        taken: list[float] = []
        began = time.perf_counter()
        while len(taken) < 3 or (time.perf_counter() - began < self.seconds and len(taken) < most):
            start = self._now()
            work()
            self.synchronize()
            taken.append(1e3 * (self._now() - start))
        return statistics.median(taken), torch.cuda.max_memory_allocated(self.device) / 2**30 if self.cuda else None

    def row(
        self, work: str, setting: str, run: Callable[[], Any], flops: float | None, per: int = 1, note: str = ""
    ) -> Row:
        """A row for `run`, which does `per` pieces of work with `flops` operations together."""
        ms, gib = self.ms(run)
        speed = flops / ms / 1e9 if flops else None
        best = self.peaks.get(setting.split(",")[0].split(" ")[0])
        return Row(work, setting, ms / per, speed, speed / best if speed and best else None, gib, note)

    def _now(self) -> float:
        return time.perf_counter() if self.cuda else time.process_time()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def best(self) -> list[Row]:
        """The device's own best: large square products in every precision, and a large copy."""
        side, rows = (8192 if self.cuda else 512), []
        for name, dtype in DTYPES.items():
            with precision(self.device, name):
                a, b = (torch.randn(side, side, device=self.device, dtype=dtype or torch.float32) for _ in range(2))
                ms, _ = self.ms(partial(torch.matmul, a, b))
            self.peaks[name] = 2 * side**3 / ms / 1e9
            rows.append(Row("matrix product", name, ms, self.peaks[name], 1.0, None, f"{side} x {side}"))
        source = torch.empty(2**30 if self.cuda else 2**24, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        ms, _ = self.ms(lambda: target.copy_(source))
        speed = 2 * source.numel() / ms / 1e9
        rows.append(Row("copy", "bytes", ms, None, None, None, f"{speed:.3g} TB/s read and written"))
        return rows


class precision(AbstractContextManager[None]):  # noqa: N801 (used as a function)
    """Products and convolutions as a row's setting says: "fp32", "tf32", or autocast to "fp16" or "bf16"."""

    def __init__(self, device: torch.device, name: str) -> None:
        self.name, dtype = name, DTYPES[name]
        self.inside: AbstractContextManager[Any] = (
            torch.autocast(device.type, dtype) if dtype is not None else nullcontext()
        )

    def __enter__(self) -> None:
        self.before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.name != "fp32"
        self.inside.__enter__()

    def __exit__(self, *problem: Any) -> None:
        self.inside.__exit__(*problem)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self.before


def operations(run: Callable[[], Any]) -> float:
    """Floating-point operations of `run`: matrix products, convolutions and attention, two per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())
