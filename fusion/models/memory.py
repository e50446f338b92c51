"""How much memory a picture may take: `max_memory=auto|4GiB|0.5`, and how many pixels go into it at once."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from fusion.errors import ConfigError

SHARE = 0.5
"""Of what is free, where nothing is said."""
PICTURE = 60
"""Bytes per pixel of a pair for what is whole even where a network goes by tiles: both sources, the result, and a copy."""
PAYS = 3 << 30
"""Bytes beyond which a CPU gains nothing from larger tiles."""
LEAST_SIDE = 128
"""Of a tile with its margin, however little memory there is."""
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
          "tib": 1 << 40}  # fmt: skip
_TEXT = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", re.IGNORECASE)


def memory_limit(wanted: Any, device: torch.device) -> int:
    """Bytes that fusing one pair may take.

    Args:
        wanted: "auto" (half of what is free), a share of what is free such as 0.5, or a size such as "4GiB", "800 MB", or bytes.
        device: where the model is.

    Raises:
        ConfigError: neither.
    """
    if wanted is None or wanted == "auto":
        return int(SHARE * free_memory_of(device))
    found = _TEXT.fullmatch(wanted) if isinstance(wanted, str) else None
    number, unit = (float(found[1]), found[2].lower()) if found else (wanted, "")
    if not isinstance(wanted, bool) and isinstance(number, int | float) and unit in _UNITS and number > 0:
        if not unit and number <= 1:
            return int(number * free_memory_of(device))
        if number * _UNITS[unit] >= 1 << 20:
            return int(number * _UNITS[unit])
    raise ConfigError(
        f"max_memory={wanted}: expected auto (half of what is free), a share such as 0.5, or a size from 1MiB such as 4GiB"
    )


def free_memory_of(device: torch.device) -> int:
    """Bytes that are free: on the device, or of the machine within the limits of its container."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = [value for value in (_of_machine(), _of_container()) if value is not None]
    return max(min(found), 0) if found else 4 << 30


def _of_machine() -> int | None:
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError, AttributeError):  # macOS tells all there is; half of it is taken as free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return None


def _of_container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the control group of this process leaves, of both versions; file caches count as free."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):
            most = int((root / limit).read_text())  # "max" is no number: no limit
            taken = int((root / used).read_text())
            table = (root / used).with_name("memory.stat").read_text().split()
            freeable = int(dict(zip(table[::2], table[1::2], strict=False)).get(cache, 0))
            return most - taken + freeable
    return None


def pixels_at_once(limit: int, bytes_per_pixel: float, pixels: int, device: torch.device) -> int:
    """Pixels of a pair that a network takes at once.

    Args:
        limit: see `memory_limit`.
        bytes_per_pixel: of the network, see `FusionModel`.
        pixels: of the pair; both sources and the result are whole.
        device: of the network.
    """
    room = limit - PICTURE * pixels
    if device.type == "cpu":
        room = min(room, PAYS)
    return max(int(room / bytes_per_pixel), LEAST_SIDE**2)
