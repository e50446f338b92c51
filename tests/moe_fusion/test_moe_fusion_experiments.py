"""Experiments of MoE-Fusion: what each changes, and that the documented commands compose."""

import re
import shlex
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from fusion.job.aliases import full_overrides
from fusion.job.config import check, config_dir

ROOT = Path(__file__).parents[2]
README = ROOT / "experiments" / "moe_fusion" / "README.md"
FOLDER = config_dir() / "experiment"
NAMES = ["moe_fusion", *sorted(f"moe_fusion/{path.stem}" for path in (FOLDER / "moe_fusion").glob("*.yaml"))]
COMMAND = re.compile(r"python -m fusion\.(\w+) ([^`|\n]+)")


@pytest.fixture(scope="module")
def compose():
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield lambda root, *overrides, **options: hydra.compose(root, full_overrides(overrides), **options)


@pytest.mark.parametrize("name", NAMES)
def test_experiment_passes_the_check_under_a_name_of_its_own(compose, name):
    assert check(compose("train", f"experiment={name}"))["name"] == name.replace("/", "_")


@pytest.mark.parametrize("dataset", ["m3fd", "flir", "llvip"])
@pytest.mark.parametrize(
    ("row", "part", "target"),
    [
        ("wo_mole", "local", "NoLocal"),
        ("wo_moge", "decoder", "SingleDecoder"),
        ("att_local", "local", "AttentionLocal"),
    ],
)
def test_ablation_changes_one_part_and_keeps_the_recipe(compose, row, part, target, dataset):
    base = "moe_fusion" if dataset == "m3fd" else f"moe_fusion/{dataset}"
    ours, main = (check(compose("train", f"experiment={n}")) for n in (f"moe_fusion/t2_{row}_{dataset}", base))
    assert ours["model"][part]["_target_"].endswith(target)
    assert {k: v for k, v in ours["model"].items() if k != part} == {
        k: v for k, v in main["model"].items() if k != part
    }
    for key in ("data", "optimizer", "scheduler", "trainer", "seed"):
        assert {k: v for k, v in _without_paths(ours[key]).items()} == _without_paths(main[key]), key


def _without_paths(node):
    return {k: v for k, v in node.items() if k != "default_root_dir"} if isinstance(node, dict) else {"": node}


@pytest.mark.parametrize("dataset", ["m3fd", "flir", "llvip"])
def test_detectors_have_the_classes_of_their_data(compose, dataset):
    from fusion.job.config import instantiate

    base = "moe_fusion" if dataset == "m3fd" else f"moe_fusion/{dataset}"
    main = check(compose("train", f"experiment={base}"))
    judge = check(compose("train", f"experiment=moe_fusion/detector_{dataset}"))

    def classes(node):
        return node["classes"] or list(instantiate({**node, "root": "nowhere"}).class_names)

    names = classes(main["data"]["train"][dataset])
    assert main["model"]["attention"]["detector"]["num_classes"] == len(names)
    assert judge["model"]["class_names"] == names
    for config in (main, judge):
        watched = config["data"]["val"]["pairs"]
        assert classes(watched) == names and watched["_target_"].lower().endswith(dataset)


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("fig7_n", "num_experts", [2, 4, 6, 8]),
        ("fig7_k", "top_k", [1, 2, 3, 4]),
        ("fig8_alpha", "loss.alpha", [1, 5, 10, 20, 40]),
    ],
)
def test_sweeps_cover_the_figures(compose, name, key, values):
    cfg = compose("train", f"experiment=moe_fusion/{name}", return_hydra_config=True)
    ((swept, text),) = cfg.hydra.sweeper.params.items()
    assert swept == f"model.{key}" and [int(value) for value in text.split(",")] == values
    for value in values:
        model = check(OmegaConf.merge(cfg.model, OmegaConf.from_dotlist([f"{key}={value}"])), "model")
        assert model["attention"]["detector"]["num_classes"] == 3


def test_switches_of_the_readme_differ_from_the_defaults_and_compose(compose):
    section = README.read_text().split("## Paper against released code")[1]
    switches = re.findall(r"`(model\.[a-z_.]+=[^`]+)`", section.split("At 480x640")[0])
    assert len(switches) >= 8
    default = check(compose("train", "experiment=moe_fusion"))["model"]
    changed = check(compose("train", "experiment=moe_fusion", *switches))["model"]
    for switch in switches:
        key = switch.split("=")[0].removeprefix("model.").split(".")
        before, after = default, changed
        for part in key:
            before, after = before[part], after[part]
        assert before != after, switch


@pytest.mark.parametrize(("door", "line"), sorted(set(COMMAND.findall(README.read_text()))), ids=lambda text: text[:50])
def test_documented_command_composes(compose, door, line):
    arguments = shlex.split(line)
    if door == "data" and "action=label" not in arguments:
        door = "train"
    cfg = compose(door, *(a for a in arguments if a.split("=")[0] not in ("ckpt_path", "suite", "kind", "dir")))
    if door == "train":
        check({key: cfg[key] for key in ("model", "data", "trainer")})
    for argument in arguments:
        if argument.startswith("suite="):
            assert (config_dir() / "metrics" / f"{argument.removeprefix('suite=')}.yaml").is_file()


def test_box_skipping_is_left_to_the_data(compose):
    for name in NAMES[:1]:
        for node in check(compose("train", f"experiment={name}"))["data"]["train"].values():
            assert node["require_boxes"] is True and node["resize"] == [480, 640]
