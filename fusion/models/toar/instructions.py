"""Which sentence asks for which task."""

from collections.abc import Mapping, Sequence

import torch

from fusion.errors import ConfigError

PLAIN = "none"
"""The instruction of no instruction."""


class Instructions:
    """Tasks and the sentences that ask for them; the first of each is the one that training takes by default.

    Args:
        sentences: by task; a task with None is left out.

    Raises:
        ConfigError: a task without a sentence, or one sentence for two tasks.
    """

    def __init__(self, sentences: Mapping[str, Sequence[str] | None]) -> None:
        self.sentences = {task: [str(text) for text in texts] for task, texts in sentences.items() if texts is not None}
        self._tasks: dict[str, str] = {}
        for task, texts in self.sentences.items():
            if not texts:
                raise ConfigError(f"model.instructions.{task}: expected a list of at least one sentence")
            for text in texts:
                if self._tasks.setdefault(_key(text), task) != task:
                    raise ConfigError(f"model.instructions: '{text}' asks for {self._tasks[_key(text)]} and for {task}")

    @property
    def all(self) -> list[str]:
        """Every sentence."""
        return [text for texts in self.sentences.values() for text in texts]

    def resolve(self, instruction: str) -> str:
        """The sentence of an instruction: a task's name stands for its first sentence, other text for itself."""
        name = instruction.strip()
        if not name:
            raise ConfigError("the instruction is empty: give a sentence, or none at all for the plain fusion")
        return self.sentences[name][0] if name in self.sentences else name

    def knows(self, sentence: str) -> bool:
        """Whether a sentence is one of the lists."""
        return _key(sentence) in self._tasks

    def task_of(self, instruction: str) -> str:
        """The task that a sentence asks for.

        Raises:
            ConfigError: none of the known ones.
        """
        task = self._tasks.get(_key(self.resolve(instruction)))
        if task is None:
            raise ConfigError(f"instruction '{instruction}' is none of model.instructions: add it to its task's list")
        return task

    def paraphrase(self, instruction: str, share: float) -> str:
        """With this probability, another sentence of the same task; draws from torch's generator."""
        others = self.sentences[self.task_of(instruction)][1:]
        if not others or float(torch.rand(())) >= share:
            return self.resolve(instruction)
        return others[int(torch.randint(len(others), ()))]


def _key(text: str) -> str:
    return " ".join(text.casefold().split())
