"""Vectors of sentences without any weights, for tests and machines that are offline."""

import hashlib
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.parts import Part

_WORD = re.compile(r"[^\W_]+")
_FRAME = frozenset(
    _WORD.findall(
        "a an the this that these those it its i me my we us our you your and or but of in on at to from for with by as into "
        "is are be was were am do does did can could will would shall should may might must all any every each some no not "
        "what which who where when why how there here please want need like let just out up "
        "find show see look spot locate search get give make tell mark mind draw run help "
        "image images picture pictures photo photos photograph scene scenes task tasks thing things"
    )
)
"""Words that ask without saying for what: `find the` of `find the people`."""


class HashedText(Part):
    """Sum of one Gaussian vector per word, drawn from the word's hash, scaled to the variance of one word.

    Sentences that share words get similar vectors; nothing else is understood, so this is not for results. Whether two
    sentences ask for the same is decided without the words that most requests have (`content`).

    Args:
        dim: length of the vectors; 4096 as LLaMA's.
        recognise: cosine similarity (here about the share of common words) from which on a sentence counts as another
            wording of a known one: more than half of two words each; None: take every sentence.
    """

    is_costly = False

    def __init__(self, dim: int = 4096, recognise: float | None = 0.6) -> None:
        self.dim, self.recognise = dim, recognise
        self.identity = f"hashed words {dim}"

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Vectors `(n, dim)` with entries of unit variance."""
        return torch.stack([self._sentence(sentence) for sentence in sentences])

    def content(self, sentence: str) -> str:
        """The words that say what is asked for; the whole sentence where it has none."""
        words = [word for word in _WORD.findall(sentence.casefold()) if word not in _FRAME]
        return " ".join(words) or sentence

    def release(self) -> None:
        """Nothing to give back."""

    def _sentence(self, sentence: str) -> Tensor:
        words = _WORD.findall(sentence.casefold()) or [sentence]
        return torch.stack([self._word(word) for word in words]).sum(0) / len(words) ** 0.5

    def _word(self, word: str) -> Tensor:
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=7).digest(), "big")
        return torch.randn(self.dim, generator=torch.Generator().manual_seed(seed))
