"""Parts from outside: metrics, routers and data sets of one's own package join by configuration alone."""

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion.data import write_image
from fusion.errors import ConfigError
from fusion.job.config import check
from fusion.job.plugins import load_plugins, trusted_packages
from fusion.metrics import names
from fusion.metrics.registry import _REGISTRY

METRIC = '''
from torch import Tensor
from fusion.metrics import metric
from fusion.metrics.triple import Triple

@metric("gap_of_{name}", symbol="GAP", title="mean gray level against the sources", direction="min", source="a test")
def gap(t: Triple) -> Tensor:
    """Distance of the fused image's mean from that of the sources."""
    return (t.fused.mean((-2, -1)) - (t.a + t.b).mean((-2, -1)) / 2).abs()
'''
PARTS = """
import torch
from fusion.data import PairDataset

class FirstExpertRouter(torch.nn.Module):
    def __init__(self, dim: int, num_experts: int = 4) -> None:
        super().__init__()

class MyPairs(PairDataset):
    pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A package from outside with a metric `gap_of_NAME`; each test has one of its own, as imports are for good."""
    name = f"parts_{abs(hash(request.node.name)) % 10**8}"
    folder = tmp_path / "outside" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "metrics.py").write_text(METRIC.replace("{name}", name))
    (folder / "broken.py").write_text("raise RuntimeError('no luck')\n")
    (folder / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.setenv("FUSION_PLUGINS", "")  # load_plugins writes it; so it is put back
    monkeypatch.setenv("FUSION_TRUSTED_PACKAGES", "")
    yield name
    _REGISTRY.pop(f"gap_of_{name}", None)


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Arguments for `fusion.score`: three triples whose fused image is 10 gray levels too bright."""
    for index in range(3):
        for side, level in (("a", 40 + index), ("b", 60 + index), ("fused", 60 + index)):
            write_image(tmp_path / side / f"{index}.png", torch.full((3, 16, 16), level / 255))
    return [f"{side}={tmp_path / side}" for side in ("a", "b", "fused")]


@pytest.mark.parametrize(("way", "workers"), [("imports", 2), ("environment", 1)])
def test_score_knows_a_metric_from_outside_also_in_its_processes(
    package: str,
    way: str,
    workers: int,
    folders: list[str],
    door: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    given = []
    if way == "imports":
        given = [f"imports=[{package}.metrics]"]
        monkeypatch.setenv("FUSION_TRUSTED_PACKAGES", package)
    else:
        monkeypatch.setenv("FUSION_PLUGINS", f"{package}.metrics")
    out = tmp_path / "scores.csv"
    suite = f"suite.metrics=[gap_of_{package}]"
    ended = door("score", *folders, *given, suite, f"out={out}", f"workers={workers}", "plot=null", "device=cpu")
    assert ended.status == 0, ended.err
    with out.open(newline="") as file:
        values = [float(row[f"gap_of_{package}@exact:luma"]) for row in csv.DictReader(file)]
    assert values == pytest.approx([10, 10, 10])


def test_validation_and_evaluation_know_a_metric_from_outside(
    package: str, door: Callable[..., Any], tiny_overrides: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FUSION_TRUSTED_PACKAGES", f"tinyfusion,{package}")
    name = f"gap_of_{package}"
    more = [f"imports=[{package}.metrics]", f"evaluation.metrics=[psnr,{name}]"]
    run = tmp_path / "run"
    ended = door("train", *tiny_overrides, *more, f"monitor.metric=val/{name}", "monitor.mode=min", f"run_dir={run}")
    assert ended.status == 0, ended.err
    assert f"val/{name}" in (run / "metrics.csv").read_text().splitlines()[0]
    scores = tmp_path / "evaluation"
    arguments = [*tiny_overrides, *more, f"ckpt_path={run}", "part=val", "baselines=[average]", "contact_sheet=false"]
    ended = door("evaluate", *arguments, f"monitor.metric=val/{name}", f"run_dir={scores}")
    assert ended.status == 0, ended.err
    with (scores / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    average = [float(row[name]) for row in rows if row["method"] == "average"]
    assert len(average) == 5 and max(average) < 0.5  # the average has the sources' mean, but for its rounding


def test_processes_started_later_inherit_the_imports(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_TRUSTED_PACKAGES", package)
    assert load_plugins([f"{package}.metrics"]) == [f"{package}.metrics"]
    assert f"gap_of_{package}" in names()
    del sys.modules[f"{package}.metrics"], _REGISTRY[f"gap_of_{package}"]  # as in a process that was just started
    monkeypatch.setenv("FUSION_TRUSTED_PACKAGES", "")
    assert load_plugins() == [f"{package}.metrics"]
    assert f"gap_of_{package}" in names()


def test_an_untrusted_package_is_refused_with_the_variable_that_trusts_it(package: str) -> None:
    with pytest.raises(ConfigError, match=f"imports={package}.metrics: .*FUSION_TRUSTED_PACKAGES={package}$"):
        load_plugins([f"{package}.metrics"])
    for part in ("FirstExpertRouter", "MyPairs"):
        with pytest.raises(
            ConfigError, match=f"x._target_={package}.parts.{part}: .*FUSION_TRUSTED_PACKAGES={package}$"
        ):
            check({"_target_": f"{package}.parts.{part}"}, "x")


def test_routers_and_data_sets_of_a_plugin_can_be_built(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_PLUGINS", f"{package}.metrics")
    assert package in trusted_packages()
    router = {"_target_": f"{package}.parts.FirstExpertRouter", "_partial_": True, "num_experts": 2}
    assert check({"router": router}, "model")["router"] == router


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("metric", "no module '{name}.metric'; start in the folder that holds it, or set PYTHONPATH"),
        ("broken", "importing it failed with RuntimeError: no luck"),
    ],
)
def test_modules_that_cannot_be_imported_are_named(
    package: str, module: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_TRUSTED_PACKAGES", package)
    with pytest.raises(ConfigError) as caught:
        load_plugins(f"{package}.{module}")
    assert said.replace("{name}", package) in str(caught.value)
    assert "\n" not in str(caught.value)
