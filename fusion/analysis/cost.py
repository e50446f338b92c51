"""Cost of a forward pass: floating-point operations, time and memory."""

import os
import platform
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fusion.errors import ConfigError, FusionError
from fusion.models.base import FusionModel

PRECISIONS: dict[str, torch.dtype | None] = {"32-true": None, "bf16": torch.bfloat16, "16": torch.float16}
"""Full precision, or autocast to bfloat16 or float16; Lightning's `32`, `bf16-mixed` and `16-mixed` mean the same."""


@dataclass(frozen=True)
class Cost:
    """Time and memory of fusing one batch.

    Attributes:
        batch_seconds: median over the repeats.
        batch_seconds_low, batch_seconds_high: 10th and 90th percentile.
        pair_seconds: median per pair.
        pairs_per_second: its inverse.
        peak_bytes: most memory in use: what PyTorch allocated on the GPU, weights included; on a CPU the largest
            resident size that the whole process has had.
        start_bytes: the same before the first run: weights and images; on a CPU also Python and the libraries.
        memory_of: "device" or "process", which of the two.
    """

    batch_seconds: float
    batch_seconds_low: float
    batch_seconds_high: float
    pair_seconds: float
    pairs_per_second: float
    peak_bytes: int
    start_bytes: int
    memory_of: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def autocast_dtype(precision: Any) -> torch.dtype | None:
    """The type that a precision autocasts to, None for full precision.

    Raises:
        ConfigError: an unknown precision.
    """
    name = str(precision).removesuffix("-mixed")
    name = "32-true" if name == "32" else name
    if name not in PRECISIONS:
        raise ConfigError(f"precision={precision}: expected one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def random_batch(size: tuple[int, int], batch: int, task: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A batch of random `(batch, 3, H, W)` pairs in [0, 1]."""
    a, b = torch.rand(2, batch, 3, *size, device=device)
    return {"a": a, "b": b, "task": task, "name": [str(index) for index in range(batch)]}


def count_flops(model: FusionModel, batch: dict[str, Any]) -> int:
    """Floating-point operations of fusing a batch: matrix products and convolutions, two per multiply-add.

    Attention is counted as the matrix products it consists of. The model and the batch may be fake tensors.
    """
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.predict_step(batch, 0)  # type: ignore[arg-type]
    return counter.get_total_flops()


def measure(model: FusionModel, batch: dict[str, Any], precision: Any, warmup: int, repeats: int) -> Cost:
    """Fuse a batch again and again.

    Args:
        model: on the device to measure, in evaluation mode.
        batch: on the same device.
        precision: see `PRECISIONS`.
        warmup: runs before the measured ones (compilation, caches, choice of algorithms).
        repeats: measured runs; the device is synchronised before and after each.

    Raises:
        ConfigError: impossible numbers.
        FusionError: not enough memory.
    """
    if warmup < 0 or repeats < 1:
        raise ConfigError(f"warmup={warmup}, repeats={repeats}: expected warmup >= 0 and repeats >= 1")
    device, dtype = model.device, autocast_dtype(precision)
    autocast: AbstractContextManager[Any] = torch.autocast(device.type, dtype) if dtype is not None else nullcontext()
    on_device = device.type == "cuda"
    if on_device:
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if on_device else process_bytes()
    seconds = []
    try:
        with torch.inference_mode(), autocast:
            for index in range(warmup + repeats):
                _synchronize(device)
                start = time.perf_counter()
                model.predict_step(batch, 0)  # type: ignore[arg-type]
                _synchronize(device)
                if index >= warmup:
                    seconds.append(time.perf_counter() - start)
    except torch.OutOfMemoryError as error:
        raise FusionError("out of GPU memory: lower size or batch, or choose precision=bf16") from error
    low, *_, high = quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else seconds * 2
    middle, pairs = median(seconds), len(batch["a"])
    peak = torch.cuda.max_memory_allocated(device) if on_device else peak_process_bytes()
    peak = max(peak, before)  # a system may update the peak of a process late
    memory = peak, before, "device" if on_device else "process"
    return Cost(middle, low, high, middle / pairs, pairs / middle, *memory)


def peak_process_bytes() -> int:
    """Largest resident size that this process has had."""
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def process_bytes() -> int:
    """Resident size of this process now; where the system does not tell, the largest so far."""
    status = Path("/proc/self/statm")
    if not status.is_file():
        return peak_process_bytes()
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def describe_device(device: torch.device) -> str:
    """Name of the processor that does the work, with its threads or memory."""
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        return f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
    return f"{_cpu_name()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() != 1)}"


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()
