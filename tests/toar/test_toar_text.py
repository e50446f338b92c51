"""Sentences to vectors: encoders, what they have made before, and which sentence asks for which task."""

import builtins
import sys

import pytest
import torch

from fusion.errors import ConfigError
from fusion.models.toar.instructions import Instructions
from fusion.models.toar.text import HashedText, LanguageModelText, TextFeatures

SENTENCES = {"detection": ["object detection task", "find cars"], "saliency": ["salient object detection task"]}


class Counting:
    """An encoder that counts what it is asked."""

    dim, identity, is_costly = 4, "counting", True

    def __init__(self):
        self.asked = []

    def __call__(self, sentences):
        self.asked += list(sentences)
        return torch.stack([torch.full((4,), float(len(sentence))) for sentence in sentences])

    def release(self):
        self.asked.append("released")


def test_hashed_sentences_are_the_same_everywhere_and_alike_where_they_share_words():
    encoder = HashedText(2048)
    one, same, near, far = encoder(["find the cars", "Find the CARS!", "find the people", "segment this"])
    assert torch.equal(one, same)
    assert torch.cosine_similarity(one, near, 0) > 0.5 > 0.2 > torch.cosine_similarity(one, far, 0)
    assert one.std().item() == pytest.approx(1, abs=0.1)
    assert one[:3].tolist() == pytest.approx(HashedText(2048)(["find the cars"])[0, :3].tolist())


def test_features_are_made_once_and_kept_on_disk(tmp_path):
    encoder = Counting()
    features = TextFeatures(encoder, tmp_path)
    vectors = features(["a", "bb", "a"])
    assert vectors[:, 0].tolist() == [1, 2, 1]
    assert encoder.asked == ["a", "bb", "released"], "each sentence once, and then the memory back"
    features(["bb"])
    again = TextFeatures(Counting(), tmp_path)
    assert torch.equal(again(["bb", "a"]), vectors[[1, 0]])
    assert again.encoder.asked == []
    again.path("a").write_bytes(b"cut short")
    repaired = TextFeatures(Counting(), tmp_path)
    assert torch.equal(repaired(["a"]), vectors[:1])


def test_features_of_another_encoder_are_left_aside(tmp_path):
    features = TextFeatures(Counting(), tmp_path)
    features.learn("another", {"a": torch.zeros(4)})
    assert features.known() == {}
    features.learn("counting", {"a": torch.full((4,), 7.0)})
    assert features(["a"])[0, 0] == 7
    assert features.encoder.asked == []


def test_without_transformers_one_line_names_the_extra(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "transformers":
            raise ModuleNotFoundError("No module named 'transformers'", name="transformers")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'image-fusion\[text\]'") as refused:
        LanguageModelText("some/model", dim=8)(["a"])
    assert "\n" not in str(refused.value)
    from fusion.downstream.segmentation import SegFormer

    with pytest.raises(ConfigError, match=r"pip install 'image-fusion\[text\]'"):
        SegFormer(num_classes=3)


def test_instructions_know_their_task():
    instructions = Instructions(SENTENCES)
    assert instructions.resolve("detection") == "object detection task"
    assert instructions.resolve(" whatever you like ") == "whatever you like"
    assert instructions.task_of("Find  cars") == "detection"
    assert instructions.paraphrase("detection", 1.0) == "find cars"
    assert instructions.paraphrase("find cars", 0.0) == "find cars"
    assert instructions.paraphrase("saliency", 1.0) == "salient object detection task"
    with pytest.raises(ConfigError, match="'fly' is none of model.instructions"):
        instructions.task_of("fly")
    with pytest.raises(ConfigError, match="empty"):
        instructions.resolve(" ")


@pytest.mark.parametrize(
    ("sentences", "message"), [({"a": []}, "at least one"), ({"a": ["x"], "b": ["X"]}, "and for b")]
)
def test_impossible_instructions_are_refused(sentences, message):
    with pytest.raises(ConfigError, match=message):
        Instructions(sentences)


def test_doors_without_transformers_end_with_one_line(monkeypatch, door, tmp_path):
    from fusion.data.files.image import write_image

    monkeypatch.setitem(sys.modules, "transformers", None)
    for name in ("a", "b", "out"):
        write_image(tmp_path / f"{name}.png", torch.rand(3, 24, 24))
    pictures = [f"{name}={tmp_path / name}.png" for name in ("a", "b", "out")]
    for arguments, instead in (
        (["predict", "model=toar", "model/text_encoder=llama", "control.instruction=saliency", *pictures], "hashed"),
        (["train", "experiment=toar/segmenter_fmb", f"run_dir={tmp_path / 'run'}", "logger=none"], "segmenter=small"),
    ):
        status, said = door(*arguments)
        (line,) = [line for line in said.splitlines() if line.startswith("error:")]
        assert status == 2 and "pip install 'image-fusion[text]'" in line and line.endswith(instead)
