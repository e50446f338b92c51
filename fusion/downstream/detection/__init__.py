"""Object detection on fused images."""

from fusion.downstream.detection.evaluation import DetectionEvaluation
from fusion.downstream.detection.module import DetectorTraining
from fusion.downstream.detection.scores import DetectionScores
from fusion.downstream.detection.yolo import YOLO

__all__ = ["YOLO", "DetectionEvaluation", "DetectionScores", "DetectorTraining"]
