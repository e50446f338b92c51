"""Released fusion networks to compare with, and the wrapper that makes a `FusionModel` of any network with two inputs."""

from fusion.models.reference.densefuse import DenseFuseNetwork
from fusion.models.reference.ifcnn import IFCNNNetwork
from fusion.models.reference.seafusion import SeAFusionNetwork
from fusion.models.reference.wrapper import ReferenceFusion

__all__ = ["DenseFuseNetwork", "IFCNNNetwork", "ReferenceFusion", "SeAFusionNetwork"]
