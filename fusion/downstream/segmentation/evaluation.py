"""Segmentation of fused images (T-OAR Tables 1-3)."""

from fusion.downstream.evaluation import DownstreamEvaluation
from fusion.downstream.segmentation.module import SegmentationTraining
from fusion.downstream.training import load_trained


class SegmentationEvaluation(DownstreamEvaluation):
    """`segmentation.csv` and `segmentation.md`: mIoU and pixel accuracy in percent, IoU of every class in the former."""

    task = "segmentation"
    columns = (("mIoU", "mIoU", 100, 2), ("pixel_accuracy", "pixel accuracy", 100, 2))

    def load(self, ckpt_path: str | None, key: str) -> SegmentationTraining:
        """A trained segmentation network."""
        return load_trained(ckpt_path, SegmentationTraining, key, "toar/segmenter_fmb")
