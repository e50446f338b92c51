"""What flows from the data to the models: one task per batch, RGB in [0, 1]."""

from typing import NotRequired, TypedDict

from torch import Tensor

TASKS = ("vif", "mef", "mff")
"""Visible-infrared, multi-exposure and multi-focus fusion, in the order that router banks index them."""


class FusionBatch(TypedDict):
    """A batch of image pairs of one task.

    `a`/`b` are visible/infrared for "vif", over-/under-exposed for "mef", far/near focus for "mff".
    """

    a: Tensor  # (B, 3, H, W) float32 RGB in [0, 1]; grey sources are repeated to 3 channels
    b: Tensor  # (B, 3, H, W) float32 RGB in [0, 1]
    task: str
    name: list[str]
    a_is_gray: list[bool]  # whether the file had one channel: writers give grey pairs back as grey
    b_is_gray: list[bool]
    reference: NotRequired[Tensor]  # (B, 3, H, W) ground-truth fusion
    mask: NotRequired[Tensor]  # (B, H, W) int64 labels
    boxes: NotRequired[list[Tensor]]  # per image (n, 4) xyxy in pixels
    labels: NotRequired[list[Tensor]]  # per image (n,) int64
    instruction: NotRequired[list[str]]
