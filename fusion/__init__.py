"""Image-fusion experiment platform: train, sweep, fuse and score published fusion methods and your own."""

from typing import TYPE_CHECKING

from fusion.lazy import exports
from fusion.version import __version__

if TYPE_CHECKING:
    from fusion.api import list_models, load_model
    from fusion.sharing.publish import push_to_hub, save_folder

__all__ = ["__version__", "list_models", "load_model", "push_to_hub", "save_folder"]

__getattr__ = exports(__name__, __file__)
