"""Labels of batches."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError, DataError


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


def check_classes(class_names: Sequence[str], datamodule: Any, part: str, key: str) -> None:
    """Refuse data whose boxes count the same classes in another order than a detector.

    Args:
        class_names: classes of the detector.
        datamodule: a `FusionDataModule`, or something without data sets.
        part: "train", "val" or "test".
        key: that names the detector, for the message.

    Raises:
        ConfigError: the order differs.
    """
    for name, dataset in (getattr(datamodule, "parts", None) or {}).get(part, {}).items():
        classes = tuple(getattr(dataset, "classes", ()))
        if classes != tuple(class_names) and sorted(classes) == sorted(class_names):
            raise ConfigError(
                f"data.{part}.{name} counts its classes as {', '.join(classes)}, {key} as {', '.join(class_names)}: set "
                f"data.{part}.{name}.classes=[{','.join(class_names)}]"
            )
