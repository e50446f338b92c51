"""Image-fusion experiment platform: train, sweep, fuse and score published fusion methods and your own."""

from typing import TYPE_CHECKING, Any

from fusion.version import __version__

if TYPE_CHECKING:
    from fusion.api import list_models, load_model

__all__ = ["__version__", "list_models", "load_model"]


def __getattr__(name: str) -> Any:
    if name in ("list_models", "load_model"):  # on demand: it imports PyTorch
        import fusion.api

        return getattr(fusion.api, name)
    raise AttributeError(f"module 'fusion' has no attribute '{name}'")
