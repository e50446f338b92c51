"""Salient object detection on fused images."""

from fusion.downstream.saliency.evaluation import SaliencyEvaluation
from fusion.downstream.saliency.module import SaliencyTraining
from fusion.downstream.saliency.network import CTDNet
from fusion.downstream.saliency.scores import SaliencyScores

__all__ = ["CTDNet", "SaliencyEvaluation", "SaliencyScores", "SaliencyTraining"]
