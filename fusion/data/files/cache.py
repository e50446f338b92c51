"""Decoded samples on disk: read by memory mapping, so that a small crop touches only the pages it needs."""

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fusion.data.batch import IMAGE_KEYS
from fusion.data.files.pairs import Pair
from fusion.data.sample import Sample
from fusion.errors import DataError
from fusion.files import atomic

_TENSORS = (*IMAGE_KEYS, "mask", "boxes", "labels")
VERSION = "1"


class DiskCache:
    """One file per pair, named by what it was made from: a changed image or option is decoded anew.

    Grey pictures take one plane. An LLVIP pair takes 5 to 8 MB, its 12,025 training pairs 63 to 95 GB.

    Args:
        root: folder of the files; made when the first one is written. Delete it to free the space.
        options: everything else that decides the decoded sample, as text.
    """

    def __init__(self, root: Path, options: str) -> None:
        self.root, self.options = root, options

    def get(self, pair: Pair) -> dict[str, Tensor] | None:
        """The tensors of a sample, or None if there is no readable file."""
        path = self._path(pair)
        if not path.is_file():
            return None
        try:
            found = load_file(path)
        except (OSError, SafetensorError):
            return None  # half a file of a full disk: decode and write it again
        return {key: _restored(value) if key in IMAGE_KEYS else value for key, value in found.items()}

    def put(self, pair: Pair, sample: Sample) -> None:
        """Keep the tensors of a sample.

        Raises:
            DataError: the folder cannot be written, or the disk is full.
        """
        path = self._path(pair)
        kept = {key: _stored(sample, key) for key in _TENSORS if key in sample}
        try:
            with atomic(path) as temporary:
                save_file(kept, temporary)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{path.parent}: the cache cannot be written ({error}); free space, set cache_dir, or cache=none."
            ) from error

    def _path(self, pair: Pair) -> Path:
        parts = [VERSION, self.options]
        for file in (pair.a, pair.b, pair.reference, pair.label, pair.boxes):
            if file is not None:
                try:
                    status = file.stat()
                except OSError:
                    raise DataError(f"{file}: no such file; it was there when the data set was opened.") from None
                parts.append(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}")
        # Pairs that are parts of one file (bands) differ by their names.
        digest = hashlib.blake2b("\n".join([pair.name, *parts]).encode(), digest_size=16).hexdigest()
        return self.root / digest[:2] / f"{digest}.safetensors"


def _stored(sample: Sample, key: str) -> Tensor:
    """Pictures as `(H, W, 1 or 3)`, the order in which decoders give them and crops are resized fastest."""
    value: Tensor = sample[key]
    if key not in IMAGE_KEYS:
        return value.contiguous()
    single = key in ("a", "b") and sample[f"{key}_is_gray"]
    return (value[:1] if single else value).permute(1, 2, 0).contiguous()


def _restored(value: Tensor) -> Tensor:
    return value.permute(2, 0, 1).expand(3, -1, -1)
