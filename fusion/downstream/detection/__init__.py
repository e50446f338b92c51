"""Object detection on fused images."""

from fusion.downstream.detection.evaluation import DetectionEvaluation
from fusion.downstream.detection.module import DetectorTraining
from fusion.downstream.detection.scores import DetectionScores

__all__ = ["DetectionEvaluation", "DetectionScores", "DetectorTraining"]
