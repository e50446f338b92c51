"""How the shipped tailored model takes sentences: known ones, other words for the same, other tasks, and nonsense.

    python experiments/toar/words.py OUT --data DATA [--model toar_tailored]

Writes OUT/words.csv, a row per sentence: what it means, what it acts as with the sentence encoder of the model and by common words
alone (where no encoder is installed), and OUT/words_change.csv, the mean absolute difference between what the actions make of MSRS
test pairs, in grey levels of 255. Sentences that act alike make the same picture to the bit.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import torch

from fusion.api import load_model
from fusion.data import MSRS
from fusion.files import markdown, write_csv
from fusion.models.toar.recognition import Recognition
from fusion.models.toar.text import HashedText, TextFeatures

SENTENCES = {  # none of them is in the model's lists
    "detection": (
        "show me the persons and vehicles", "spot pedestrians in the dark", "where are the cars and the people?",
        "locate every human in the picture", "I need bounding boxes for people and cars", "highlight the pedestrians",
        "is anybody there?", "look for vehicles", "detect persons", "track the walkers at night",
        "find men and women on the street", "help my detector see people",
    ),
    "segmentation": (
        "segment this road scene for me", "assign a class to each pixel", "parse the scene into road, sky and buildings",
        "give me a label map", "semantic segmentation please", "outline the regions by their category",
        "which pixels are road and which are sidewalk?", "make the classes easy to tell apart", "scene parsing",
        "pixelwise classification of the street", "separate road, car and person regions", "I will train a segmentation network",
    ),
    "neither": (
        "make it look like a banana", "paint it blue", "reduce noise", "tell me a joke", "sharpen the image",
        "which object stands out", "remove the rain", "increase the resolution", "estimate the depth", "write a caption",
        "what time is it", "translate this into French",
    ),
}  # fmt: skip


def taken(model: Any, by_words: bool) -> dict[str, str]:
    """What each sentence acts as: a task, or "plain"."""
    text = TextFeatures(HashedText(1024)) if by_words else model.text
    threshold = HashedText().recognise if by_words else model.text.encoder.recognise
    recognise = Recognition(model.instructions, text, threshold, model.recognise.wordings)
    found = {}
    for sentence in (sentence for group in SENTENCES.values() for sentence in group):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is fused plainly is in the table
            meant = recognise(sentence)
        found[sentence] = "plain" if meant is None else model.instructions.task_of(meant)
    return found


def changes(model: Any, dataset: MSRS, pairs: int) -> list[dict[str, Any]]:
    """Grey levels between what the actions make, means over pairs spread over the data set."""
    made: dict[str, list[torch.Tensor]] = {"none": [], "detection": [], "segmentation": []}
    for place in range(pairs):
        sample = dataset.load(place * len(dataset) // pairs)
        a, b = (sample[key][None].float() / 255 for key in ("a", "b"))
        for action, images in made.items():
            images.append(255 * model.fuse(a, b, instruction=action).fused.float().flatten())
    whole = {action: torch.cat(images) for action, images in made.items()}
    return [
        {"action": one, **{f"to {other}": float((whole[one] - whole[other]).abs().mean()) for other in whole}}
        for one in whole
    ]


def main() -> None:
    """Measure, write, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True, help="folder that holds MSRS")
    parser.add_argument("--model", default="toar_tailored", help="name of a tailored model, or a run folder")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of the grey levels")
    arguments = parser.parse_args()
    is_run = Path(arguments.model).exists()
    model: Any = load_model(ckpt_path=arguments.model) if is_run else load_model(arguments.model)
    by_meaning, by_words = taken(model, False), taken(model, True)
    rows = [
        {"means": task, "sentence": sentence, "by meaning": by_meaning[sentence], "by words": by_words[sentence]}
        for task, group in SENTENCES.items()
        for sentence in group
    ]
    write_csv(arguments.out / "words.csv", rows)
    columns = ("detection", "segmentation", "plain")
    for how in ("by meaning", "by words"):
        counts = [
            [task, *(sum(row["means"] == task and row[how] == acts for row in rows) for acts in columns)]
            for task in SENTENCES
        ]
        print(markdown([f"{how}: means", *columns], counts))
    found = changes(model, MSRS(Path(arguments.data) / "MSRS", "test", labels=False, match_size="a"), arguments.pairs)
    write_csv(arguments.out / "words_change.csv", found)
    print(markdown(list(found[0]), [list(row.values()) for row in found], decimals=1))


if __name__ == "__main__":
    main()
