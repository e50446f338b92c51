"""Training: fit, learning-rate schedules, dry runs, callbacks."""

from fusion.training.fsdp import FSDP
from fusion.training.schedules import constant, multi_step, poly, ramp_cosine, triangular, warmup_cosine

__all__ = ["FSDP", "constant", "multi_step", "poly", "ramp_cosine", "triangular", "warmup_cosine"]
