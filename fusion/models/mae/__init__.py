"""Masked autoencoders: pretraining of backbones for fusion."""

from fusion.models.mae.module import MAEPretraining

__all__ = ["MAEPretraining"]
