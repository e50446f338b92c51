"""Salient objects in fused images (T-OAR Tables 1-3)."""

from fusion.downstream.evaluation import DownstreamEvaluation
from fusion.downstream.saliency.module import SaliencyTraining
from fusion.downstream.training import load_trained


class SaliencyEvaluation(DownstreamEvaluation):
    """`saliency.csv` and `saliency.md`: mean F-measure, mean absolute error and E-measure."""

    task = "saliency"
    columns = (("mean_f", "mF", 1, 4), ("mae", "MAE", 1, 4), ("mean_e", "Em", 1, 4))

    def load(self, ckpt_path: str | None, key: str) -> SaliencyTraining:
        """A trained saliency network."""
        return load_trained(ckpt_path, SaliencyTraining, key, "toar/saliency_vt5000")
