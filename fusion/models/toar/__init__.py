"""T-OAR (Yang et al. 2025): fused images tailored by a written instruction to the task that looks at them."""

from fusion.models.toar.base_fusion import BaseFusion
from fusion.models.toar.fidelity import Fidelity
from fusion.models.toar.losses import BrightnessGradientLoss
from fusion.models.toar.module import TOAR
from fusion.models.toar.network import BaseFusionNetwork
from fusion.models.toar.regulation import DynamicPrompt, Regulation, StaticPrompt, TextConcat, TextSum

__all__ = [
    "TOAR",
    "BaseFusion",
    "BaseFusionNetwork",
    "BrightnessGradientLoss",
    "DynamicPrompt",
    "Fidelity",
    "Regulation",
    "StaticPrompt",
    "TextConcat",
    "TextSum",
]
