"""Vectors of sentences without any weights, for tests and machines that are offline."""

import hashlib
import re
from collections.abc import Sequence

import torch
from torch import Tensor

_WORD = re.compile(r"[^\W_]+")


class HashedText:
    """Sum of one Gaussian vector per word, drawn from the word's hash, scaled to the variance of one word.

    Sentences that share words get similar vectors; nothing else is understood, so this is not for results.

    Args:
        dim: length of the vectors; 4096 as LLaMA's.
        recognise: cosine similarity (here about the share of common words) from which on a sentence counts as another
            wording of a known one; None: take every sentence.
    """

    is_costly = False

    def __init__(self, dim: int = 4096, recognise: float | None = 0.5) -> None:
        self.dim, self.recognise = dim, recognise
        self.identity = f"hashed words {dim}"

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Vectors `(n, dim)` with entries of unit variance."""
        return torch.stack([self._sentence(sentence) for sentence in sentences])

    def release(self) -> None:
        """Nothing to give back."""

    def _sentence(self, sentence: str) -> Tensor:
        words = _WORD.findall(sentence.casefold()) or [sentence]
        return torch.stack([self._word(word) for word in words]).sum(0) / len(words) ** 0.5

    def _word(self, word: str) -> Tensor:
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=7).digest(), "big")
        return torch.randn(self.dim, generator=torch.Generator().manual_seed(seed))
