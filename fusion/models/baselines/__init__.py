"""Fusions without parameters, the references that every method should beat."""

from fusion.models.baselines.average import Average
from fusion.models.baselines.laplacian import LaplacianPyramid
from fusion.models.baselines.maximum import Maximum

__all__ = ["Average", "LaplacianPyramid", "Maximum"]
