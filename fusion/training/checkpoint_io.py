"""Checkpoints on disk: written beside their target, brought to disk, renamed; the file before stays until then."""

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from fusion.errors import FusionError
from fusion.files import atomic

MARGIN = 1 << 20
"""Bytes beside its tensors that a checkpoint may take."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own writer goes through the temporary folder, which may lie on another and smaller disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: content.
            path: local file; other protocols go Lightning's way.
            storage_options: not supported, as in the base class.

        Raises:
            FusionError: too little space, or the folder cannot be written; what was there before is untouched.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            needed, free = tensor_bytes(checkpoint) + MARGIN, shutil.disk_usage(target.parent).free
            if free < needed:
                raise FusionError(_full(target, f"it takes {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"))
            with atomic(target) as temporary:
                torch.save(checkpoint, temporary)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FusionError(_full(target, str(error.strerror))) from error
            raise FusionError(f"{target}: cannot be written ({error.strerror or error})") from error
        except RuntimeError as error:  # PyTorch's writer hides the errno
            raise FusionError(_full(target, "the disk took no more")) from error


def _full(target: Path, why: str) -> str:
    kept = "the checkpoint before it is still there; " if target.is_file() else ""
    return (
        f"{target}: no space for the checkpoint ({why}); {kept}free some, then go on with resume={target.parent.parent}"
    )


def tensor_bytes(content: Any) -> int:
    """Bytes of all tensors in nested containers; memory that several share counts once."""
    seen: dict[int, int] = {}
    stack = [content]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            storage = item.untyped_storage()
            seen[storage.data_ptr()] = max(seen.get(storage.data_ptr(), 0), storage.nbytes())
        elif isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return sum(seen.values())
