"""MoE-Fusion: multi-modal gated mixture of local-to-global experts for dynamic image fusion (ICCV 2023)."""

from fusion.models.moe_fusion.attention import Attention, BoxAttention, SaliencyAttention, UniformAttention
from fusion.models.moe_fusion.decoder import MixtureOfGlobalExperts, SingleDecoder
from fusion.models.moe_fusion.detectors import DetectorAttention
from fusion.models.moe_fusion.judged import JudgeAttention
from fusion.models.moe_fusion.local import AttentionLocal, MixtureOfLocalExperts, NoLocal
from fusion.models.moe_fusion.losses import MoEFusionLoss
from fusion.models.moe_fusion.module import MoEFusion

__all__ = [
    "Attention",
    "AttentionLocal",
    "BoxAttention",
    "DetectorAttention",
    "JudgeAttention",
    "MixtureOfGlobalExperts",
    "MixtureOfLocalExperts",
    "MoEFusion",
    "MoEFusionLoss",
    "NoLocal",
    "SaliencyAttention",
    "SingleDecoder",
    "UniformAttention",
]
