"""What fused images are good for: detection and other tasks on them, their networks and scores."""

from fusion.downstream.tasks import DetectionTask, JudgeTask, SaliencyTask, SegmentationTask

__all__ = ["DetectionTask", "JudgeTask", "SaliencyTask", "SegmentationTask"]
