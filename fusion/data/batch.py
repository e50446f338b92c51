"""The batch that data modules give to models: one task, RGB in [0, 1]."""

from typing import NotRequired, TypedDict

from torch import Tensor

TASKS = ("vif", "mef", "mff")
"""Visible-infrared, multi-exposure and multi-focus fusion, in the order that router banks index them."""
IMAGE_KEYS = ("a", "b", "reference", "auxiliary_a", "auxiliary_b")
"""Images of a sample or batch: what is decoded, cropped, flipped and moved together."""
UNSEEN_TASKS = ("medical", "nir", "pansharpening")
"""Tasks that nothing here is trained on and that users' folders may hold; the model says which it knows."""


class FusionBatch(TypedDict):
    """A batch of image pairs of one task.

    `a`/`b` are visible/infrared for "vif", over-/under-exposed for "mef", far/near focus for "mff".
    """

    a: Tensor  # (B, 3, H, W) float32 RGB in [0, 1]; gray sources are repeated to 3 channels
    b: Tensor  # (B, 3, H, W) float32 RGB in [0, 1]
    task: str
    name: list[str]
    dataset: NotRequired[list[str]]
    a_is_gray: list[bool]  # whether the file had one channel: writers give gray pairs back as gray
    b_is_gray: list[bool]
    reference: NotRequired[Tensor]  # (B, 3, H, W) ground-truth fusion
    mask: NotRequired[Tensor]  # (B, H, W) int64 class of every pixel, 255 where it does not count
    boxes: NotRequired[list[Tensor]]  # per image (n, 4) float32 xyxy in pixels
    labels: NotRequired[list[Tensor]]  # per image (n,) int64 class of every box, counted from 0
    instruction: NotRequired[list[str]]
    auxiliary_a: NotRequired[Tensor]  # (B, 3, H, W) second pair of the same scene, of another task (GIFNet)
    auxiliary_b: NotRequired[Tensor]  # (B, 3, H, W)
    auxiliary_task: NotRequired[str]
