"""What a text encoder is."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class TextEncoder(Protocol):
    """Sentences to vectors, always the same vector for the same sentence.

    Attributes:
        dim: length of the vectors.
        identity: everything that decides the vectors, as text; features on disk are kept under it.
        is_costly: whether features are worth keeping on disk.
        recognise: cosine similarity from which on two sentences mean the same; None: similarities say nothing.
    """

    dim: int
    identity: str
    is_costly: bool
    recognise: float | None

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Vectors `(n, dim)`, float32 on the CPU."""
        ...

    def content(self, sentence: str) -> str:
        """What of a sentence is compared with known ones; all of it, where the encoder itself weighs the words."""
        ...

    def release(self) -> None:
        """Give the memory of the encoder back; the next call loads it again."""
        ...
