"""Labels of batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.errors import DataError


def masks_of(batch: FusionBatch) -> Tensor:
    """Class maps `(B, H, W)` of a batch.

    Raises:
        DataError: it has none.
    """
    if not isinstance(batch.get("mask"), torch.Tensor):
        names = ", ".join(batch["name"][:3])
        raise DataError(
            f"these pairs have no label maps ({names}): take data that has them, such as data=fmb or data=vt5000"
        )
    return batch["mask"]


def boxes_of(batch: FusionBatch) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Boxes and labels of a batch.

    Raises:
        DataError: it has none.
    """
    if "boxes" not in batch or "labels" not in batch:
        names = ", ".join(batch["name"][:3])
        raise DataError(f"these pairs have no boxes ({names}): detection needs data with boxes, such as data=flir")
    return batch["boxes"], batch["labels"]
