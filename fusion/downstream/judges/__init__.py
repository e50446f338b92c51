"""Released networks as frozen judges of fused images: COCO detectors, MFNet's segmenter."""

from fusion.downstream.judges.coco import CocoDetector
from fusion.downstream.judges.evaluation import CocoDetection, MFNetSegmentation
from fusion.downstream.judges.fastestdet import FastestDet
from fusion.downstream.judges.mfnet import MFNet
from fusion.downstream.judges.segmenter import MFNetSegmenter
from fusion.downstream.judges.yolox import YOLOXNano

__all__ = [
    "CocoDetection",
    "CocoDetector",
    "FastestDet",
    "MFNet",
    "MFNetSegmentation",
    "MFNetSegmenter",
    "YOLOXNano",
]
