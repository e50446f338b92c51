"""What an instruction asks of every image of a batch, as vectors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fusion.errors import ConfigError
from fusion.models.toar.instructions import PLAIN
from fusion.models.toar.recognition import Recognition

Instruction = str | Sequence[str] | Mapping[str, float]


def asked_of(instruction: Instruction | None, count: int, recognise: Recognition) -> tuple[Tensor | None, Tensor]:
    """Vectors of an instruction, and which images it regulates.

    Args:
        instruction: see `TOAR.forward`.
        count: images B.
        recognise: gives the known sentence that another one means, or None; has the vectors of sentences.

    Returns:
        Text features `(B, dim)`, or None for plain fusion of all; and `(B, 1, 1, 1)`, 0 for images fused plainly.

    Raises:
        ConfigError: an unknown sentence in a mix, or instructions for another number of images.
    """
    asked = torch.ones(count, 1, 1, 1)
    if instruction is None or instruction == PLAIN:
        return None, asked
    if isinstance(instruction, Mapping):
        known = {sentence: recognise(str(sentence)) for sentence in instruction}
        if unknown := [str(sentence) for sentence, meant in known.items() if meant is None]:
            raise ConfigError(
                f"'{unknown[0]}' cannot be mixed in: it means none of {', '.join(recognise.instructions.sentences)}"
            )
        vectors = recognise.text([str(meant) for meant in known.values()])
        shares = vectors.new_tensor([float(share) for share in instruction.values()])
        return (shares @ vectors)[None].expand(count, -1), asked
    sentences = [instruction] * count if isinstance(instruction, str) else list(instruction)
    if len(sentences) != count:
        raise ConfigError(f"{len(sentences)} instructions for {count} images: expected one, or one per image")
    meant = [None if sentence == PLAIN else recognise(sentence) for sentence in sentences]
    if not any(meant):
        return None, asked
    stand_in = next(sentence for sentence in meant if sentence is not None)
    asked = torch.tensor([float(sentence is not None) for sentence in meant]).view(-1, 1, 1, 1)
    return recognise.text([sentence or stand_in for sentence in meant]), asked
