"""Semantic segmentation of fused images."""

from fusion.downstream.segmentation.evaluation import SegmentationEvaluation
from fusion.downstream.segmentation.module import SegmentationTraining
from fusion.downstream.segmentation.network import PyramidSegmenter, SegFormer
from fusion.downstream.segmentation.scores import SegmentationScores

__all__ = ["PyramidSegmenter", "SegFormer", "SegmentationEvaluation", "SegmentationScores", "SegmentationTraining"]
