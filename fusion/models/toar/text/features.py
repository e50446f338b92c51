"""Features of sentences, made once: in memory, on disk, and in checkpoints."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fusion.files import atomic
from fusion.models.toar.text.encoders import TextEncoder


class TextFeatures:
    """Vectors of sentences; the encoder is asked for those that were never asked for before.

    Args:
        encoder: the text encoder.
        folder: where features of costly encoders are kept, one file per sentence; None: the cache of weights.
    """

    def __init__(self, encoder: TextEncoder, folder: str | Path | None = None) -> None:
        self.encoder = encoder
        self._folder = None if folder is None else Path(folder)
        self._memory: dict[str, Tensor] = {}

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.encoder.dim

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Vectors `(n, dim)`, float32 on the CPU."""
        missing = [sentence for sentence in dict.fromkeys(sentences) if not self._recall(sentence)]
        if missing:
            for sentence, vector in zip(missing, self.encoder(missing), strict=True):
                self._memory[sentence] = vector
                self._write(sentence, vector)
            self.encoder.release()  # a language model is larger than all the rest
        return torch.stack([self._memory[sentence] for sentence in sentences])

    def known(self) -> dict[str, Tensor]:
        """What is in memory, by sentence."""
        return dict(self._memory)

    def learn(self, identity: str, vectors: Mapping[str, Tensor]) -> None:
        """Take features that an encoder of this identity made; those of others are left aside."""
        if identity == self.encoder.identity:
            self._memory |= {str(sentence): vector.float() for sentence, vector in vectors.items()}

    def path(self, sentence: str) -> Path:
        """File of a sentence."""
        from fusion.hub import cache_dir

        folder = self._folder or cache_dir() / "text"
        return folder / _digest(self.encoder.identity) / f"{_digest(sentence)}.safetensors"

    def _recall(self, sentence: str) -> bool:
        if sentence in self._memory:
            return True
        if not self.encoder.is_costly:
            return False
        try:
            with safe_open(self.path(sentence), framework="pt") as file:
                if file.metadata().get("sentence") != sentence:
                    return False
                self._memory[sentence] = file.get_tensor("features")
            return True
        except (OSError, SafetensorError):  # not there yet, or cut short: make it again
            return False

    def _write(self, sentence: str, vector: Tensor) -> None:
        if not self.encoder.is_costly:
            return
        path = self.path(sentence)
        with atomic(path) as temporary:  # processes of one run may write the same
            save_file({"features": vector}, temporary, {"sentence": sentence, "encoder": self.encoder.identity})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
