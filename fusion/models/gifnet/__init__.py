"""GIFNet: low-level task interaction for task-agnostic image fusion (CVPR 2025)."""

from fusion.models.gifnet.gates import ChannelGate, ScalarGate
from fusion.models.gifnet.losses import GIFNetLoss
from fusion.models.gifnet.module import GIFNet
from fusion.models.gifnet.source_weights import DenseNetWeights, FixedWeights, ImageGradientWeights

__all__ = [
    "ChannelGate",
    "DenseNetWeights",
    "FixedWeights",
    "GIFNet",
    "GIFNetLoss",
    "ImageGradientWeights",
    "ScalarGate",
]
