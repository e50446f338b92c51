"""Door `benchmark`."""

import json
from pathlib import Path

import hydra
import pytest
import torch
from torch import nn

from fusion.analysis.benchmark import without_weights
from fusion.analysis.cost import autocast_dtype, count_flops, random_batch
from fusion.analysis.parameters import Group, count, published
from fusion.errors import ConfigError
from fusion.job.config import config_dir, plain
from fusion.models.base import FusionModel
from fusion.models.output import FusionOutput


def test_parameters_of_the_base_model_are_those_of_the_released_code(door, tmp_path: Path) -> None:
    done = door("benchmark", "model=tcmoa_base", "timing=false", "size=[112,112]", f"run_dir={tmp_path}")
    assert done.status == 0, done.err
    report = json.loads((tmp_path / "benchmark.json").read_text())
    parameters = report["parameters"]
    embeddings = 3 * 6 * 768 + 2 * 6 * 512
    assert parameters["groups"]["source embeddings"]["all"] == embeddings == 19968
    assert parameters["trainable"] == 3_865_197 + embeddings
    assert parameters["frozen"] == 111_907_328
    assert parameters["groups"]["positions"]["all"] == 99_144
    assert parameters["groups"]["prompt generation"]["all"] == 1_022_112 + 306_816
    assert parameters["groups"]["fusion convolutions"]["all"] == 1_880_064 + 557_056
    assert sum(group["all"] for group in parameters["groups"].values()) == parameters["all"]
    assert "cost" not in report and "9.58 M" in done.out and "3.87" in done.out
    assert done.out.startswith((tmp_path / "benchmark.txt").read_text())


def test_a_timed_run_reports_time_memory_and_machine(door, overrides: list[str], tmp_path: Path) -> None:
    places = [
        f"run_dir={tmp_path}",
        "size=[100,112]",
        "batch=2",
        "repeats=2",
        "warmup=1",
        "precision=bf16",
        "device=cpu",
    ]
    done = door("benchmark", *overrides, *places)
    assert done.status == 0, done.err
    report = json.loads((tmp_path / "benchmark.json").read_text())
    cost = report["cost"]
    assert cost["batch_seconds_low"] <= cost["batch_seconds"] <= cost["batch_seconds_high"]
    assert cost["pair_seconds"] == pytest.approx(cost["batch_seconds"] / 2)
    assert cost["pairs_per_second"] == pytest.approx(1 / cost["pair_seconds"])
    assert cost["peak_bytes"] >= cost["start_bytes"] > 0 and cost["memory_of"] == "process"
    assert report["machine"]["versions"]["torch"] in done.out and "batch 2" in done.out
    assert report["parameters"]["published"] == {} and "paper" not in done.out


class Affine(FusionModel):
    """A convolution and a product of known cost; `peek` makes it look at values, which fake tensors do not have."""

    def __init__(self, peek: bool = False) -> None:
        super().__init__()
        self.conv, self.peek = nn.Conv2d(3, 3, 5, padding=2), peek

    def forward(self, a, b, task, **controls):
        if self.peek and float(a.sum()) < 0:
            raise AssertionError
        return FusionOutput(self.conv(a) + b)


@pytest.mark.parametrize("peek", [False, True])
def test_operations_are_two_per_multiply_add_whether_or_not_a_model_can_be_faked(
    monkeypatch: pytest.MonkeyPatch, peek: bool
) -> None:
    import fusion.analysis.benchmark as benchmark

    monkeypatch.setattr(benchmark, "instantiate", lambda config: Affine(peek))
    monkeypatch.setattr(benchmark, "build_model", lambda *arguments: Affine(peek).eval())
    groups, flops = benchmark.statistics({}, None, (20, 30), {"flops": True, "task": "vif"})
    assert flops == 2 * 20 * 30 * 3 * 3 * 25 == count_flops(Affine(), random_batch((20, 30), 1, "vif"))
    assert groups == [Group("conv", 3 * 3 * 25 + 3, 3 * 3 * 25 + 3)]


def test_models_without_parameters_are_counted_too(door, tmp_path: Path) -> None:
    done = door(
        "benchmark", "model=average", "size=[8,8]", "repeats=1", "warmup=0", "device=cpu", f"run_dir={tmp_path}"
    )
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "benchmark.json").read_text())["parameters"]["all"] == 0


def test_groups_of_other_models_are_their_modules() -> None:
    model = nn.ModuleDict({"network": nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 1)})})
    model["network"]["head"].requires_grad_(False)
    assert count(model) == [Group("network.encoder", 6, 6), Group("network.head", 3, 0)]


def test_published_numbers_belong_to_the_published_settings() -> None:
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        large, tiny, average = (
            plain(hydra.compose("predict", [f"model={name}"]).model)
            for name in ("tcmoa_large", "tcmoa_tiny", "average")
        )
    assert published(large)["trainable"] == 9.58e6
    assert published({**large, "num_experts": 8}) == {}
    assert published(tiny) == {}
    assert published(average) == {}


def test_only_weights_are_left_out() -> None:
    node = {"weights": "mae_base", "loss": {"weights": "official"}, "parts": [{"weights": "/x/y.pth"}]}
    assert without_weights(node) == {"weights": None, "loss": {"weights": "official"}, "parts": [{"weights": None}]}


def test_precisions() -> None:
    assert autocast_dtype("32-true") is None and autocast_dtype(16) == torch.float16
    assert autocast_dtype("bf16-mixed") == torch.bfloat16
    with pytest.raises(ConfigError, match="precision=64: expected one of 32-true, bf16, 16"):
        autocast_dtype(64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("size=480", "size=480: expected height and width"),
        ("size=[480,-1]", "expected height and width"),
        ("batch=0", "batch=0: expected a whole number"),
        ("repeats=0", "repeats=0: expected"),
        ("precision=8", "precision=8: expected one of"),
        ("task=xyz", "task 'xyz'"),
        ("model.top_k=9", "model.top_k=9"),
        ("model=tcmoa_tny", "did you mean 'tcmoa_tiny'"),
    ],
)
def test_mistakes_get_one_line(door, overrides: list[str], tmp_path: Path, change: str, said: str) -> None:
    kept = [] if change.startswith("model=") else overrides
    done = door("benchmark", *kept, "size=[112,112]", "device=cpu", f"run_dir={tmp_path}", change)
    assert done.status == 2 and said in done.err.strip().splitlines()[-1], done.err
    assert not (tmp_path / "benchmark.json").exists()
