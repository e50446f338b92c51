"""Door `analyze` on models: routing, prompts, intensity bias, experts."""

import csv
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

import fusion
from fusion.analysis.bias import Dominance, bias
from fusion.analysis.experts import Binned, experts, features
from fusion.analysis.prompts import prompts, spread, statistics
from fusion.analysis.routing import adapter_map, routing, shares, usage
from fusion.analysis.scenes import Scene, Study, run, scenes
from fusion.data.sets.folders import Folders
from fusion.errors import ConfigError
from fusion.models.base import FusionModel
from fusion.models.inputs import reflect_to_multiple
from fusion.models.output import FusionOutput
from fusion.moe.routing import Routing


@pytest.fixture
def study(model: FusionModel, pairs: Path, tmp_path: Path):
    """Makes a study of the tiny model on the generated pairs, as two tasks."""
    sets = [Folders(pairs / "a", pairs / "b", task) for task in ("vif", "mff")]

    def make(per_task: int | None = 1, model: FusionModel = model, **options) -> Study:
        return Study(model, partial(scenes, sets, per_task, 112, model), tmp_path / "out", options)

    return make


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def assert_drawn(paths: list[Path]) -> None:
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                low, high = picture.convert("L").getextrema()
                assert low < high and min(picture.size) > 100


def test_bias_by_hand() -> None:
    # tokens (p_a, p_b): a dominates (.8, .2) and (.6, .5), b dominates (.1, .9), neither (.5, .5)
    prompt = torch.tensor([[0.8, 0.6, 0.1, 0.5], [0.2, 0.5, 0.9, 0.5]]).view(1, 2, 2, 2)
    found = Dominance.of(prompt[..., :1, :]) + Dominance.of(prompt[..., 1:, :])
    assert found.tokens.tolist() == [2, 1] and found.total == 4
    expected = {"a_dominant_a": 0.7, "a_dominant_b": 0.35, "b_dominant_a": 0.1, "b_dominant_b": 0.9}
    assert found.values() == pytest.approx(expected | {"average": 0.8, "difference": 0.2})
    only_a = Dominance.of(prompt[..., :1, :]).values()
    assert only_a["a_dominant_a"] == pytest.approx(0.7)
    assert only_a["average"] != only_a["average"]  # b never dominates: not a number


def test_bias_stands_beside_the_papers(study, capsys: pytest.CaptureFixture[str]) -> None:
    paths = bias(study())
    assert_drawn(paths)
    rows = table(next(path for path in paths if path.suffix == ".csv"))
    sites = ["all", "encoder.1", "decoder.1"]
    assert [row["site"] for row in rows if row["source"] == "measured" and row["task"] == "vif"] == sites
    total, *parts = (int(row["tokens"]) for row in rows if row["source"] == "measured" and row["task"] == "vif")
    assert total == sum(parts) == 2 * 14 * 14
    paper = {row["task"]: float(row["average"]) for row in rows if row["source"] == "paper"}
    assert paper == {"vif": 0.7932, "mff": 0.9263}
    assert "0.9263" in capsys.readouterr().out


def test_usage_by_hand() -> None:
    weights = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6]])
    decision = Routing(weights, weights.sum(0), weights.sum(0), shape=(1, 1, 2))
    rows = shares({("mef", "encoder.1"): usage(decision) + usage(decision)})
    assert [row["topk_share"] for row in rows] == [0.5, 1.0, 0.5]
    assert [row["top1_share"] for row in rows] == [0.5, 0.0, 0.5]
    assert [row["mean_gate"] for row in rows] == pytest.approx([0.35, 0.35, 0.3])
    assert rows[0]["tokens"] == 4 and adapter_map(decision).tolist() == [[[0, 2]]]


def test_routing_draws_histograms_and_adapter_maps(study) -> None:
    paths = routing(study(per_task=2, maps=1))
    assert_drawn(paths)
    assert {path.name for path in paths} == {"routing.csv", "routing.png", "adapter_map_vif.png", "adapter_map_mff.png"}
    rows = [row for row in table(paths[0]) if (row["task"], row["site"]) == ("mff", "decoder.1")]
    assert [row["expert"] for row in rows] == ["0", "1", "2", "3"]
    assert sum(float(row["top1_share"]) for row in rows) == pytest.approx(1)
    assert sum(float(row["topk_share"]) for row in rows) <= 2 + 1e-9  # K = 2
    with pytest.raises(ConfigError, match=r"routing\.map_site=encoder\.9: no such site; known: encoder\.1, decoder\.1"):
        routing(study(map_site="encoder.9"))


def test_prompts_and_control_grid(study) -> None:
    options = {"pairs": 1, "sites": 2, "alphas": [0, 2], "betas": [-0.3, 0, 0.3]}
    paths = prompts(study(per_task=2, **options))
    assert_drawn(paths)
    names = {path.name for path in paths}
    assert {"prompts.csv", "control.csv", "prompts_vif_Folders_scene_0.png", "control_mff_Folders_scene_0.png"} <= names
    assert sum(name.startswith("control_") for name in names) == 2
    grid = table(next(path for path in paths if path.name == "control.csv"))
    assert [(row["alpha"], row["beta"]) for row in grid if row["task"] == "vif"][:3] == [
        ("0.0", "-0.3"),
        ("2.0", "-0.3"),
        ("0.0", "0.0"),
    ]
    assert len({row["mean"] for row in grid}) > 6  # the controls do something
    assert {row["name"] for row in table(next(path for path in paths if path.name == "prompts.csv"))} == {
        "scene_0",
        "scene_1",
    }


def test_prompt_statistics_by_hand() -> None:
    scene = Scene("vif", "Set", "one", torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))
    output = FusionOutput(scene.a, [torch.tensor([[[[0.8, 0.2]], [[0.4, 0.8]]]])], [], ["encoder.1"])
    (row,) = statistics(scene, output)
    assert (row["mean_a"], row["mean_b"]) == pytest.approx((0.5, 0.6))
    assert row["std_a"] == pytest.approx(0.3) and row["off_one"] == pytest.approx(0.1) and row["a_dominant"] == 0.5


@pytest.mark.parametrize(
    ("count", "wanted", "expected"), [(8, 4, [0, 2, 5, 7]), (3, 4, [0, 1, 2]), (5, 1, [0]), (5, 0, [])]
)
def test_sites_are_spread(count: int, wanted: int, expected: list[int]) -> None:
    assert spread(count, wanted) == expected


def test_expert_features_are_those_of_the_tokens() -> None:
    a = torch.zeros(1, 3, 4, 16)
    a[..., 8:] = 1.0
    scene = Scene("vif", "Set", "one", a, torch.full((1, 3, 4, 16), 0.25))
    found = features(scene, (1, 4))
    assert found["brightness_a"].tolist() == pytest.approx([0, 0, 1, 1], abs=1e-6)
    assert found["brightness_b"].tolist() == pytest.approx([0.25] * 4)
    assert found["energy_b"].tolist() == pytest.approx([-6] * 4)
    edge = math.log10(0.5**2 / 4)  # Sobel gives half the step in one of a token's four columns
    assert found["energy_a"].tolist() == pytest.approx([-6, edge, edge, -6], abs=1e-5)


def test_gates_are_averaged_by_bin(study) -> None:
    gates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.2, 0.8]])
    binned = Binned.of(torch.tensor([0.1, 0.3, 0.9, 7.0]), gates, 0.0, 1.0, 2)
    assert binned.tokens.tolist() == [2, 2]
    torch.testing.assert_close(binned.gates, torch.tensor([[1.0, 1.0], [0.7, 1.3]]).double())
    paths = experts(study(bins=4))
    assert_drawn(paths)
    rows = [r for r in table(paths[0]) if (r["task"], r["site"], r["feature"]) == ("vif", "encoder.1", "brightness_a")]
    assert sum(float(row["share"]) for row in rows if row["expert"] == "0") == pytest.approx(1)
    filled = [row for row in rows if row["mean_gate"]]
    by_bin = {low: sum(float(r["mean_gate"]) for r in filled if r["low"] == low) for low in {r["low"] for r in filled}}
    assert all(total == pytest.approx(1, abs=1e-3) for total in by_bin.values())


def test_pairs_are_spread_over_a_task_and_fit_the_model(model: FusionModel, pairs: Path) -> None:
    sets = [Folders(pairs / "a", pairs / "b", "vif", include=names) for names in (["scene_0", "scene_1"], ["scene_2"])]
    found = list(scenes(sets, 2, None, model))
    assert [(scene.name, tuple(scene.a.shape[-2:])) for scene in found] == [
        ("scene_0", (112, 112)),
        ("scene_1", (128, 224)),  # of 130: whole tokens
    ]
    assert [scene.name for scene in scenes(sets, None, 64, model)] == ["scene_0", "scene_1", "scene_2"]
    output = run(model, found[1])
    assert output.prompts[0].shape[-2:] == (16, 28) and output.fused.shape == found[1].a.shape
    assert output.routings[0].shape == (1, 16, 28) and len(output.routings[0].weights) == 16 * 28
    whole = model(*(reflect_to_multiple(image, 112) for image in (found[1].a, found[1].b)), "vif")
    torch.testing.assert_close(output.prompts[0], whole.prompts[0][:, :, :16])  # the picture's own tokens, nothing else
    weights = whole.routings[0].weights.unflatten(0, whole.routings[0].shape)[:, :16]
    torch.testing.assert_close(output.routings[0].weights, weights.flatten(0, 2))
    (small,) = scenes(sets[1:], 1, 80, model)  # 90 x 100 in proportion is 72 x 80, in whole tokens:
    assert tuple(small.a.shape[-2:]) == (64, 80)
    for mistake in ({"per_task": 0, "max_side": None}, {"per_task": 1, "max_side": 0}):
        with pytest.raises(ConfigError, match="expected"):
            list(scenes(sets, **mistake, model=model))


@pytest.mark.parametrize(
    ("kind", "what"), [(routing, "routers"), (prompts, "prompts"), (bias, "prompts"), (experts, "routers")]
)
def test_models_without_anything_to_show_are_refused(study, kind, what: str) -> None:
    with pytest.raises(ConfigError, match=f"Average as configured has no {what}"):
        kind(study(model=fusion.load_model("average")))


def test_the_door_runs_a_kind_on_folders(door, overrides: list[str], pairs: Path, tmp_path: Path) -> None:
    places = [
        f"a={pairs / 'a'}",
        f"b={pairs / 'b'}",
        "task=mef",
        "data=folders",
        "device=cpu",
        f"run_dir={tmp_path / 'run'}",
    ]
    done = door("analyze", "kind=routing", *overrides, *places, "pairs_per_task=1", "max_side=112")
    assert done.status == 0, done.err
    printed = [Path(line) for line in done.out.splitlines()]
    assert printed and all(path.is_file() and path.parent == tmp_path / "run" for path in printed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["kind=routng"], "kind=routng: did you mean routing? known: routing, prompts, bias, experts, "),
        ([], "kind=None: known: routing"),
        (["kind=sweep"], "kind=sweep needs the folder of a sweep: dir=FOLDER"),
        (["kind=bias", "part=all"], "part=all: expected one of test, val, train"),
        (["kind=bias", "a=nowhere"], "nowhere"),
        (["kind=bias", "bias.bins=3"], "bias.bins"),
    ],
)
def test_mistakes_get_one_line(
    door, overrides: list[str], pairs: Path, tmp_path: Path, change: list[str], said: str
) -> None:
    places = [f"a={pairs / 'a'}", f"b={pairs / 'b'}", "data=folders", "device=cpu", f"run_dir={tmp_path / 'run'}"]
    done = door("analyze", *overrides, *places, *change)
    assert done.status == 2 and said in done.err.strip().splitlines()[-1], done.err
