"""The configurations of T-OAR build what the paper describes."""

import hydra
import pytest

from fusion.data import TaskTurns
from fusion.job.aliases import full_overrides
from fusion.job.config import check, config_dir, instantiate
from fusion.models.toar import TOAR, BaseFusion


@pytest.fixture(scope="module")
def compose():
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield lambda *overrides: check(hydra.compose("train", full_overrides(overrides)))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_both_stages_have_the_sizes_of_the_paper(compose):
    base = instantiate(compose("experiment=toar_stage1")["model"])
    assert isinstance(base, BaseFusion) and count(base) == 69_881
    model = instantiate(compose("experiment=toar_stage2")["model"])
    assert isinstance(model, TOAR)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 5_794_240
    assert sum(p.numel() for p in model.parameters() if not p.requires_grad) == 69_881


def test_recipes_are_those_of_the_paper(compose):
    one, two = compose("experiment=toar_stage1"), compose("experiment=toar_stage2")
    assert (one["trainer"]["max_epochs"], one["data"]["batch_size"]) == (100, 6)
    assert (one["optimizer"]["lr"], one["scheduler"]["start_lr"], one["scheduler"]["warmup_epochs"]) == (1e-3, 1e-4, 20)
    assert (two["trainer"]["max_epochs"], two["data"]["batch_size"], two["optimizer"]["lr"]) == (1000, 6, 1e-2)
    assert (two["trainer"]["gradient_clip_val"], two["optimizer"]["weight_decay"]) == (0.5, 1e-4)
    assert two["data"]["tasks"] == ["detection", "segmentation", "saliency"] == list(two["model"]["task_networks"])
    data = instantiate(two["data"])
    assert isinstance(data, TaskTurns) and data.turn == "detection" and data.turn_epochs == 50
    known = [text for texts in two["model"]["instructions"].values() for text in texts]
    assert {part["instruction"] for part in two["data"]["train"].values()} == set(known)


@pytest.mark.parametrize(
    ("experiment", "key", "value"),
    [
        ("i", "network.fusion", "concat"),
        ("ii", "regulation._target_", "fusion.models.toar.StaticPrompt"),
        ("iv", "regulation._target_", "fusion.models.toar.TextSum"),
        ("v", "regulation._target_", "fusion.models.toar.TextConcat"),
        ("vi", "regulation.image_statistics", False),
    ],
)
def test_models_of_table_4_change_one_thing(compose, experiment, key, value):
    from fusion.job.config import flatten

    ours = compose("experiment=toar_stage2", "model/text_encoder=hashed", "model.text_encoder.dim=64")
    other = compose(f"experiment=toar/abl_model_{experiment}", "model/text_encoder=hashed", "model.text_encoder.dim=64")
    assert flatten(other["model"])[key] == value != flatten(ours["model"]).get(key)
    changed = {k.split(".")[0] for k, v in flatten(other["model"]).items() if flatten(ours["model"]).get(k) != v}
    assert changed == {key.split(".")[0]}
    assert (other["data"], other["optimizer"]) == (ours["data"], ours["optimizer"])
    assert other["trainer"]["max_epochs"] == ours["trainer"]["max_epochs"]
    assert count(instantiate(other["model"])) > 69_000


def test_paraphrases_keep_the_papers_sentence_first(compose):
    paper = compose("model=toar")["model"]["instructions"]
    more = compose("model=toar", "model/instructions=paraphrased")["model"]["instructions"]
    assert {task: texts[:1] for task, texts in more.items()} == paper
    assert all(len(texts) > 1 for texts in more.values())


def test_stage_two_names_what_it_lacks(compose, tmp_path):
    from fusion.errors import ConfigError

    model = instantiate(compose("experiment=toar_stage2", "model/text_encoder=hashed")["model"])
    with pytest.raises(ConfigError, match=r"model\.base_weights is null"):
        model.setup("fit")
    model.network.reconstruction[5][1].running_mean.fill_(0.1)  # as if it were trained
    with pytest.raises(ConfigError, match=r"model\.task_networks\.detection\.ckpt_path has no value yet"):
        model.setup("fit")


@pytest.mark.parametrize("name", ["toar/segmenter_fmb", "toar/saliency_vt5000"])
def test_task_networks_train_on_what_stage_one_fuses(compose, name):
    model = compose(f"experiment={name}")["model"]
    assert model["images"] == "fused"
    assert model["fuser"]["_target_"] == "fusion.models.toar.BaseFusion"
    other = compose(f"experiment={name}", "model@model.fuser=maximum")["model"]
    assert other["fuser"]["_target_"] == "fusion.models.baselines.Maximum"
