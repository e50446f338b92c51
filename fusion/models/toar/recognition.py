"""Which known sentence an instruction means, by the similarity of their vectors."""

import warnings
from collections.abc import Mapping, Sequence

import torch.nn.functional as F

from fusion.errors import ConfigError, WeightsError
from fusion.models.toar.instructions import Instructions
from fusion.models.toar.text import HashedText, TextFeatures


class Recognition:
    """Known sentences stand for themselves, near ones for a known one of the same task, all others for plain fusion.

    Args:
        instructions: the known sentences, by task.
        text: vectors of sentences.
        threshold: cosine similarity from which on a sentence is near; None: every sentence stands for itself (the paper).
            Where the encoder is not installed, sentences are compared by their words (`HashedText`), which is said.
        wordings: further sentences by task that others are compared with; tasks that have no instruction are left out.
    """

    def __init__(
        self,
        instructions: Instructions,
        text: TextFeatures,
        threshold: float | None,
        wordings: Mapping[str, Sequence[str] | None] | None = None,
    ) -> None:
        self.instructions, self.text, self.threshold = instructions, text, threshold
        self.wordings = wordings
        known = {sentence: sentence for sentence in instructions.all}
        for task, sentences in (wordings or {}).items():
            if task in instructions.sentences:
                own = instructions.sentences[task]
                known |= {text: text if text in own else own[0] for text in map(str, sentences or ())}
        self._acts_as = known
        self._found: dict[str, str | None] = {}

    def __call__(self, instruction: str) -> str | None:
        """The sentence whose vector acts; None for plain fusion, which is then said in a warning.

        Raises:
            ConfigError: an empty instruction.
        """
        sentence = self.instructions.resolve(instruction)
        if self.threshold is None or self.instructions.knows(sentence):
            return sentence
        if sentence not in self._found:
            self._found[sentence] = self._acts_as.get(sentence) or self._nearest(sentence)
        return self._found[sentence]

    def _nearest(self, sentence: str) -> str | None:
        known, threshold, how = list(self._acts_as), float(self.threshold or 0), ""
        try:
            vectors = self.text([self.text.encoder.content(text) for text in (sentence, *known)])
        except (ConfigError, WeightsError) as error:  # an encoder that is not installed
            words = HashedText(1024)
            vectors, threshold = words([words.content(text) for text in (sentence, *known)]), words.recognise or 0.0
            how = f"; compared by its words alone: {str(error).split(', or take')[0]}"
        vectors = F.normalize(vectors, dim=1)
        similarity, place = (vectors[1:] @ vectors[0]).max(0)
        acts_as = self._acts_as[known[int(place)]]
        if float(similarity) >= threshold:
            return acts_as
        warnings.warn(
            f"instruction '{sentence}' means none of {', '.join(self.instructions.sentences)} (nearest: "
            f"{self.instructions.task_of(acts_as)}, '{known[int(place)]}', similarity {float(similarity):.2f} below "
            f"{threshold:.2f}): fused plainly{how}",
            stacklevel=2,
        )
        return None
