"""Adapters: what tunes a frozen backbone for fusion. A model asks the adapter for its parts, by width."""

from fusion.moe.adapters.adaptformer import AdaptFormer
from fusion.moe.adapters.base import Adapter, PromptControl, SiteOutput
from fusion.moe.adapters.frozen import FrozenBackbone
from fusion.moe.adapters.mixture import MixtureOfAdapters, SingleAdapter

__all__ = [
    "AdaptFormer",
    "Adapter",
    "FrozenBackbone",
    "MixtureOfAdapters",
    "PromptControl",
    "SingleAdapter",
    "SiteOutput",
]
