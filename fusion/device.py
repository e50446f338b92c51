"""Devices by name."""

import torch

from fusion.errors import ConfigError


def pick_device(device: str) -> torch.device:
    """A device by name; "auto" is the GPU where there is one.

    Raises:
        ConfigError: no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={device}: not available here; expected auto, cpu, cuda or cuda:N") from error
