"""Blocks that several methods use and that know nothing of a paper."""

from fusion.layers.mae import MAE

__all__ = ["MAE"]
