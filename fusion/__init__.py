"""Image-fusion experiment platform: train, sweep, fuse and score published fusion methods and your own."""

from typing import TYPE_CHECKING, Any

from fusion.version import __version__

if TYPE_CHECKING:
    from fusion.api import load_model

__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":  # on demand: it imports PyTorch
        from fusion.api import load_model

        return load_model
    raise AttributeError(f"module 'fusion' has no attribute '{name}'")
